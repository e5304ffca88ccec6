"""What the stage initial sees outside the store: the files of a folder, and of an adapter's, by content. A model of the
hub is at a commit, which its name says, and is asked for when it is fetched."""

from pathlib import Path

from storage.source_hashes import hash_files
from tasks.initial.config import ImportConfig
from tasks.initial.files import known_adapter, model_files


def observe_initial(config: ImportConfig) -> dict[str, str]:
    """File -> digest; DataError for a folder that cannot be used."""
    files: list[tuple[str, Path]] = []
    if config.path is not None:
        folder = Path(config.path)
        files += [(name, folder / name) for name in model_files(folder)]
    if config.adapter is not None:
        adapter = Path(config.adapter)
        files += [(f"adapter/{name}", adapter / name) for name in known_adapter(adapter)]
    return {file.name: file.digest for file in hash_files(files)}
