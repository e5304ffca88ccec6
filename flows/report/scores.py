"""The scores as a report shows them: what comes first, which way is better, and what is shown beside each figure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import Field, ValidationError

from flows.report.run_data import RunData
from storage.files import read_json
from tasks.engine.reported import Fact
from tasks.evaluate.references import Reference
from tasks.evaluate.score import BASE, FORGETTING, MODEL_NAMES, SCORES, TUNED, Change, Score
from tasks.statistics.outcome import Outcome

# Every other name is that of a benchmark.
OWN_MEASURES = (
    *("heldout", "known_text", "answers", "preferences", "cloze", "choice"),
    *("memorisation", "canaries", "calibration"),
)
MOST_BENCHMARKS = 8  # beside our own measures; the rest are in the table of all scores

HEADLINES = (  # (name, metric, the model whose figure it is, title, what the figure is)
    ("heldout", "bits_per_byte", BASE, "Text it has never seen", "bits needed for each byte"),
    ("known_text", FORGETTING, TUNED, "Forgetting of known text", "bits a byte more than the initial model"),
    ("answers", "bits_per_byte", TUNED, "Answers to new prompts", "bits needed for each byte"),
    ("answers", "prompt_gap", TUNED, "Use of the prompt", "bits a byte saved by the right prompt"),
    ("preferences", "accuracy", TUNED, "Answers that people preferred", "found the likelier of two"),
    ("cloze", "accuracy", BASE, "Last word of a passage", "guessed exactly"),
    ("choice", "accuracy_mutual_information", TUNED, "Choice among four", "right continuations"),
)
TITLES = {(name, metric): title for name, metric, _, title, _ in HEADLINES}
PREFERRED = ("acc", "accuracy", "acc_norm", "accuracy_mutual_information", "bits_per_byte")


class Compared(Fact):
    """One figure of both models, measured on the same items."""

    name: str
    metric: str
    title: str
    scores: tuple[Score, ...]  # base, tuned; what was not measured is left out

    def of(self, model: str) -> Score | None:
        return next((score for score in self.scores if score.model == model), None)

    @property
    def higher(self) -> bool:
        return bool(self.scores[0].higher_is_better)

    @property
    def baselines(self) -> Mapping[str, float]:
        return self.scores[0].baselines

    @property
    def references(self) -> tuple[Reference, ...]:
        return self.scores[0].references

    @property
    def change(self) -> Change | None:
        """Fine-tuned less base, on the same items."""
        tuned = self.of(TUNED)
        return tuned.change if tuned else None

    @property
    def winner(self) -> str:
        """The better model by name, or `unclear` where the interval of the difference holds 0."""
        direction = self.change.direction(self.scores[0].higher_is_better) if self.change else 0
        return {1: MODEL_NAMES[TUNED], -1: MODEL_NAMES[BASE], 0: str(Outcome.UNCLEAR)}[direction]


class Panel(Fact):
    """Figures that share a scale."""

    title: str
    better: str
    share: bool  # a share, shown as per cent
    rows: tuple[Compared, ...]


def scores_of(data: RunData) -> tuple[Score, ...]:
    """All scores of a run; none where it has no evaluation. A line that is not a score is skipped."""
    part = data.last("scores")
    lines = read_json(part / SCORES) if part else None
    scores = []
    for line in lines if isinstance(lines, list) else []:
        with suppress(ValidationError):
            scores.append(Score.model_validate(line))
    return tuple(scores)


def compared(scores: Iterable[Score]) -> list[Compared]:
    """Both models' lines of each figure side by side, in the order of the file."""
    rows: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        rows.setdefault((score.name, score.metric), []).append(score)
    return [
        Compared(name=name, metric=metric, title=TITLES.get((name, metric), name), scores=tuple(lines))
        for (name, metric), lines in rows.items()
    ]


def headlines(scores: Sequence[Score]) -> list[tuple[str, str, Score]]:
    """Title, meaning and line of the figures that say most, as far as they were measured."""
    lines = {(score.name, score.metric, score.model): score for score in scores if score.value is not None}
    return [
        (title, unit, lines[name, metric, model])
        for name, metric, model, title, unit in HEADLINES
        if (name, metric, model) in lines
    ]


def panels(scores: Sequence[Score]) -> list[Panel]:
    """The charts: own measures by their headline metric, then benchmarks by theirs, grouped by scale."""
    measured = [row for row in compared(scores) if any(score.value is not None for score in row.scores)]
    own = [row for row in measured if (row.name, row.metric) in TITLES]
    shown = own + _benchmarks(measured)
    groups = (
        ("Bits per byte", "lower is better", False, lambda row: row.metric == "bits_per_byte"),
        ("Bits per byte more than the initial model", "lower is better", False, lambda row: row.metric == FORGETTING),
        ("Share of right answers", "higher is better", True, lambda row: all(score.is_share for score in row.scores)),
        ("Bits per byte saved by the right prompt", "higher is better", False, lambda row: row.metric == "prompt_gap"),
    )
    made = [
        Panel(title=title, better=better, share=share, rows=tuple(row for row in shown if belongs(row)))
        for title, better, share, belongs in groups
    ]
    return [panel for panel in made if panel.rows]


def _benchmarks(rows: Sequence[Compared]) -> list[Compared]:
    """A figure for each benchmark (`blimp`), then for parts of those without one (`blimp/adjunct_island`), some."""
    families: dict[str, list[Compared]] = {}
    for row in rows:
        family = row.name.partition("/")[0]
        if family not in OWN_MEASURES:
            families.setdefault(family, []).append(row)
    whole: list[Compared] = []
    parts: list[Compared] = []
    for family, members in families.items():
        members.sort(key=lambda row: PREFERRED.index(row.metric) if row.metric in PREFERRED else len(PREFERRED))
        named = [row for row in members if row.name == family]
        if named or len(members) == 1:
            whole.append((named or members)[0])
        else:
            parts += [row for row in members if row.metric == members[0].metric]
    return (whole + parts)[:MOST_BENCHMARKS]


class Bin(Fact):
    """Predictions of about equal confidence, of one model."""

    model: str
    low: float
    high: float
    confidence: float | None = None
    accuracy: float | None = None
    tokens: int = 0


class Calibration(Fact):
    """How sure the models are, and how often they are right then."""

    bins: tuple[Bin, ...]
    expected_calibration_error: dict[str, float] = Field(default_factory=dict)


class Canary(Fact):
    """Random words that were planted in the training text a known number of times."""

    model: str
    repeats: int
    count: int
    reproduced: int
    exposure_mean: float | None = None
    exposure_chance: float | None = None


class Spans(Fact):
    """Pieces of the corpus, and how many of them a model goes on with word by word."""

    model: str
    split: str
    spans: int
    reproduced: int
    low: float | None = None
    high: float | None = None


class Memorisation(Fact):
    """What the models know by heart."""

    canaries: tuple[Canary, ...] = ()
    spans: tuple[Spans, ...] = ()


def read_fact(data: RunData, kind: type[Fact], name: str) -> Any:
    """A JSON file of the part `scores` as a fact; None where it is absent or of another form."""
    part = data.last("scores")
    try:
        return kind.model_validate(read_json(part / name)) if part else None
    except ValidationError:
        return None


def read_samples(data: RunData) -> list[dict[str, str]]:
    """Prompts and answers of the release; `base_answer` where the base model was asked too."""
    part = data.last("release")
    path = part / "samples.json" if part else None
    rows = json.loads(path.read_bytes()) if path is not None and path.is_file() else []
    return [{name: str(value) for name, value in row.items()} for row in rows if isinstance(row, dict)]
