"""What the stage initial sees outside the store: the files of a folder by content. A model of the hub is at a commit,
which its name says, and is asked for when it is fetched."""

from pathlib import Path

from storage.source_hashes import hash_files
from tasks.initial.config import ImportConfig
from tasks.initial.files import model_files


def observe_initial(config: ImportConfig) -> dict[str, str]:
    """File -> digest; DataError for a folder that cannot be used."""
    if config.path is None:
        return {}
    folder = Path(config.path)
    return {file.name: file.digest for file in hash_files([(name, folder / name) for name in model_files(folder)])}
