"""What a recipe can say about evaluation."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from tasks.engine.config import LOCATION, StageConfig

PACKS = Path(__file__).with_name("packs")  # task files that ship; the recipe brings the data
Name = Annotated[str, StringConstraints(pattern=r"^[^\s/*?]{1,200}$")]
Location = Annotated[str, StringConstraints(min_length=1)]


def pack_names() -> list[str]:
    """Names of the benchmarks whose task file ships."""
    return sorted(path.stem for path in PACKS.glob("*.yaml"))


class BenchmarkConfig(StageConfig):
    """A benchmark through lm-eval: one of its own (`name`), task files of yours (`path`), or a pack that ships with
    the data of yours (`name` and `data`). Functions that a task file of yours names are run: they are your code."""

    name: Name | None = Field(
        None, description="Task, group or tag of lm-eval; one of those in `path` (null: all); with `data`: a pack."
    )
    path: Location | None = Field(
        None, description="A folder of lm-eval task files (.yaml), or one such file.", json_schema_extra=LOCATION
    )
    data: Location | None = Field(
        None,
        description="The pack's data: a file, or a folder with a file for each task of a group.",
        json_schema_extra=LOCATION,
    )
    num_fewshot: int | None = Field(
        None, ge=0, le=100, description="Worked examples before each question; null: what the task says."
    )
    limit: int | None = Field(
        None, ge=1, le=10_000_000, description="Most items of each task, a sample drawn by the seed; null: all."
    )
    chat: bool = Field(
        False, description="Ask the fine-tuned model in chat form; the base model is asked as plain text in any case."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.data is not None and (self.path is not None or self.name not in pack_names()):
            raise ValueError(f"data goes with the name of a pack ({', '.join(pack_names())}) and without path")
        if self.name is None and self.path is None:
            raise ValueError("give a name (a task of lm-eval), a path (task files of your own), or a name with data")
        return self


class KnownText(StageConfig):
    """Text that the model knew before this run: .txt, .md and .rst (one text each), .jsonl, .json, .csv, .tsv and
    .parquet (one a record), plain or packed as in `collect.files`."""

    path: Location = Field(
        description="A folder (with all below it), a glob such as books/**/*.txt, or one file.",
        json_schema_extra=LOCATION,
    )
    text_field: str = Field(
        "text", min_length=1, description="Field or column that holds a record's text; a dot leads into it: body.text."
    )


class EvaluateConfig(StageConfig):
    """How much is measured, and with which seed."""

    heldout_bytes: int = Field(
        300_000, ge=1_000, le=10**9, description="Bytes of held-out text scored for bits per byte (whole documents)."
    )
    known_text: tuple[KnownText, ...] = Field(
        (),
        max_length=100,
        title="Known text",
        description="Texts that the initial model knew: how much worse the others have become on them (forgetting).",
    )
    known_bytes: int = Field(
        300_000, ge=1_000, le=10**9, description="Bytes of known text scored for forgetting (whole documents)."
    )
    stride: int | None = Field(
        None, ge=1, le=1 << 20, description="Tokens that the window moves in long documents; default: half the context."
    )
    items: int = Field(500, ge=10, le=100_000, description="Most items of the cloze, the choice and the answers each.")
    spans: int = Field(
        500, ge=0, le=100_000, description="Most spans of training documents, and of held-out ones, asked by heart."
    )
    prefix_tokens: int = Field(32, ge=1, le=4_096, description="Tokens of a span that are shown (fewer where no room).")
    span_tokens: int = Field(16, ge=1, le=4_096, description="Tokens of a span that must follow exactly.")
    exposure_candidates: int = Field(
        1_000, ge=10, le=1_000_000, description="Random sequences never planted that canaries are ranked among."
    )
    calibration_tokens: int = Field(
        32_768, ge=256, le=10**9, description="Tokens of held-out text whose prediction is checked for calibration."
    )
    baseline_bytes: int = Field(
        8_000_000, ge=1_000, le=10**9, description="Bytes of training text that the n-gram baselines are counted on."
    )
    tasks: tuple[BenchmarkConfig, ...] = Field((), max_length=100, description="Benchmarks that lm-eval defines.")
    bootstrap_draws: int = Field(1_000, ge=100, le=100_000, description="Draws for each bootstrap interval.")
    token_budget: int | None = Field(
        None, ge=256, le=1 << 22, description="Tokens of one scoring batch, padding included; default: by device."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where it scores; auto takes a GPU if there.")
    threads: int = Field(2, ge=1, le=256, description="CPU threads that score side by side.")
    seed: int = Field(1337, ge=0, le=2**32 - 1, description="Seed of the samples, the distractors and the intervals.")
