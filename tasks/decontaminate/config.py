"""What a recipe can say about decontamination."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tasks.engine.config import LOCATION, StageConfig

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Text = Annotated[str, StringConstraints(min_length=1)]


class ItemsFile(StageConfig):
    """Questions of the user's own that must not be learned: .jsonl, .json, .csv, .tsv and .parquet (an item a record),
    .txt, .md and .rst (an item a file), plain or packed as in `collect.files`."""

    name: Name = Field(description="Its name in the ledger and the report.")
    path: Text = Field(
        description="A folder (with all below it), a glob such as exams/*.jsonl, or one file.",
        json_schema_extra=LOCATION,
    )
    text_fields: tuple[Text, ...] = Field(
        ("text",),
        min_length=1,
        max_length=20,
        description="Fields that make an item, in their order: question, answer; a dot leads into one: body.text.",
    )


class DecontaminateConfig(StageConfig):
    """When a text holds an item of a benchmark, and what becomes of it."""

    mode: Literal["remove", "report", "none"] = Field(
        "remove", description="What is found of an item: removed, or only counted; none: nothing is looked for."
    )
    run_words: int = Field(
        13, ge=5, le=100, description="Words in a row that count as common to a text and an item (GPT-3: 13)."
    )
    least_words: int = Field(
        8,
        ge=4,
        le=100,
        description="Items of fewer words are not looked for; shorter than a run, as a whole (GPT-3: 8).",
    )
    min_overlap: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of an item's words that common runs must cover (0-1); 0: one run is enough (GPT-3).",
    )
    most_texts: int | None = Field(
        10,
        ge=1,
        le=1_000_000_000,
        description="A run that is in more texts is a phrase and does not count; null: all do (GPT-3: 10).",
    )
    margin_characters: int = Field(
        200, ge=0, le=100_000, description="Characters cut out of a document on both sides of an item (GPT-3: 200)."
    )
    min_piece_characters: int = Field(
        200, ge=0, le=100_000, description="A piece of a cut document with fewer characters goes too (GPT-3: 200)."
    )
    most_cuts: int = Field(
        10, ge=0, le=10_000, description="A document that needs more cuts goes whole; 0: each does (GPT-3: 10)."
    )


class DecontaminateSection(DecontaminateConfig):
    """Decontamination against the benchmarks of evaluate.tasks, and items of the user's own."""

    files: tuple[ItemsFile, ...] = Field(
        (), max_length=100, title="Own items", description="Questions besides those of evaluate.tasks."
    )

    @property
    def searching(self) -> DecontaminateConfig:
        """The config of the stage."""
        return DecontaminateConfig(**{name: getattr(self, name) for name in DecontaminateConfig.model_fields})
