"""How the text of a page is found, what of its form is kept, and what a page may cost."""

from typing import Literal

from pydantic import Field

from tasks.engine.config import StageConfig

Form = Literal["headings", "lists", "code", "tables"]


class PageConfig(StageConfig):
    """How web pages, books and the HTML of e-mails are read."""

    extractor: Literal["trafilatura", "resiliparse"] = Field(
        "trafilatura",
        description="What finds the main text; resiliparse: four times as fast, less exact, tables as plain lines.",
    )
    keep: tuple[Form, ...] = Field(
        ("headings", "lists", "code", "tables"),
        description="What stays as Markdown; others become plain lines, and tables are left out.",
    )
    repair_unicode: bool = Field(False, description="Repair text that was decoded wrongly (Ã¤ for ä), and count it.")
    seconds: float = Field(
        60.0, ge=1, le=600, description="Processor time of a page, in seconds; one that takes longer is lost alone."
    )
    max_bytes: int = Field(
        16 * 2**20, ge=1024, le=2**28, description="Longest page in bytes; a longer one is not read, and is reported."
    )
    max_memory_bytes: int = Field(
        2 * 2**30, ge=2**29, le=2**36, description="Memory of the process that reads pages, in bytes."
    )
