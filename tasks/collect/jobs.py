"""What the jobs that read files of a source have in common."""

from pydantic import Field

from tasks.collect.output import Splits
from tasks.engine.config import StageConfig


class FileJob(StageConfig):
    """Some files of a source. It has no path: a moved folder costs nothing."""

    source: str = Field(description="Name of the source.")
    names: tuple[str, ...] = Field(description="Names of the files, in order; also the roles of the job's inputs.")
    lang: str = Field("", description="Language where a text does not say.")
    license: str = Field("", description="Licence where a text does not say.")
    libraries: dict[str, str] = Field({}, description="Versions of the libraries that decide the text.")
    splits: Splits = Field(description="What is held out.")
    documents_per_shard: int = Field(description="Documents in a shard, at most.")
    max_document_bytes: int = Field(description="Longest document in bytes.")
    max_window_bytes: int = Field(description="Largest window of a .zst file in bytes.")
