"""What a recipe can say about the mix of its training text: the part `mix` of its section `collect`."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema, model_validator
from pydantic.config import JsonDict

from storage.errors import did_you_mean
from storage.listing import first_few
from tasks.engine.config import StageConfig

OTHERS = "*"  # stands for all names that are not named
LENGTH, SIGNALS, METADATA = "length", "signals", "metadata"  # what documents can be sorted by, or the kind of it


def _from_lines(value: Any) -> Any:
    """Lines `NAME=NUMBER` as a mapping: Prefect's form draws lists of texts, and no mappings."""
    if not isinstance(value, list | tuple):
        return value
    pairs = [str(line).rpartition("=") for line in value]
    for line, (name, _, _) in zip(value, pairs, strict=True):
        if not name:
            raise ValueError(f"{line!r} is not a name and its number, such as books=3")
    names = [name.strip() for name, _, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is there twice")
    return {name: number.strip() for name, (_, _, number) in zip(names, pairs, strict=True)}


def _to_lines(numbers: Mapping[str, float]) -> list[str]:
    return [f"{name}={number!r}" for name, number in numbers.items()]


Name = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Tokens = Annotated[int, Field(ge=1, le=10**14)]
_NO_LINES: JsonDict = {"default": []}  # in forms
_IN_FORMS = (
    BeforeValidator(_from_lines),
    PlainSerializer(_to_lines, when_used="json"),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
)
Weights = Annotated[dict[Name, Annotated[float, Field(ge=0, le=1e9)]], Field(max_length=1000), *_IN_FORMS]
Epochs = Annotated[dict[Name, Annotated[float, Field(gt=0, le=1000)]], Field(max_length=1000), *_IN_FORMS]
Budgets = Annotated[dict[Name, Tokens], Field(max_length=1000), *_IN_FORMS]


class PhaseConfig(StageConfig):
    """One phase of a curriculum: a share of the training with weights of its own."""

    share: float = Field(gt=0, le=1, description="Share of the training (0-1); those of all phases add up to 1.")
    weights: Weights = Field(description="Weight of each name, such as books=3; `*`: all others together.")


class CurriculumConfig(StageConfig):
    """All that is read sorted by a score, in phases of equal tokens."""

    by: str = Field(
        LENGTH,
        pattern=rf"^({LENGTH}|{SIGNALS}\.[a-z0-9_]{{1,100}}|{METADATA}\..{{1,300}})$",
        description="What documents are sorted by: length (tokens), signals.NAME of the filter (such as signals.words) "
        "or metadata.NAME, a number that the source states. Documents without it come last.",
    )
    first: Literal["low", "high"] = Field(
        "low", description="Which scores come first; low of length: from short to long."
    )
    phases: int = Field(4, ge=2, le=100, description="Phases of equal tokens; within one, documents are shuffled.")


class MixConfig(StageConfig):
    """How much of what pretraining reads. A name is that of a source, a language or a group.

    What `epochs` and `tokens` give to names is theirs; the others share the rest by their weights.
    """

    by: Literal["source", "language", "group"] = Field("source", description="What the names are names of.")
    weights: Weights = Field(
        {},
        description="Weight of each name, such as books=3; `*`: all others together. Empty: by their tokens.",
        json_schema_extra=_NO_LINES,
    )
    tokens: Tokens | Budgets | None = Field(
        None, description="Tokens of the mix, or of names (books=1000000); empty: as many as pretraining reads."
    )
    epochs: Epochs = Field(
        {},
        description="Passes over all the text of a name, such as books=2, where that is fixed.",
        json_schema_extra=_NO_LINES,
    )
    temperature: float = Field(
        1.0, ge=1, le=1000, description="Evens out names without a weight: tokens ** (1 / temperature); 1: as they are."
    )
    max_epochs: float = Field(
        4.0, gt=0, le=1000, description="Most passes over a name's text; what is cut off goes to the others."
    )
    phases: tuple[PhaseConfig, ...] = Field(
        (), max_length=100, description="A curriculum: phases one after another, in place of weights, epochs."
    )
    curriculum: CurriculumConfig | None = Field(
        None,
        title="Curriculum",
        description="Sort what is drawn by a score, in phases of equal tokens; empty: in no order. Not with phases.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the order in which documents are drawn.")

    @property
    def budgets(self) -> dict[str, int]:
        """Tokens of single names."""
        return self.tokens if isinstance(self.tokens, dict) else {}

    @property
    def named(self) -> set[str]:
        """All names that it says something of."""
        phases = (name for phase in self.phases for name in phase.weights)
        return {*self.weights, *self.budgets, *self.epochs, *phases} - {OTHERS}

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        places: dict[str, Mapping[str, float]] = {
            "weights": self.weights,
            "tokens": self.budgets,
            "epochs": self.epochs,
        }
        owner: dict[str, str] = {}
        for place, names in places.items():
            if OTHERS in names and place != "weights":
                raise ValueError(f"{place}: `*` has a weight only; name what is to have {place}")
            for name in names:
                if name in owner:
                    raise ValueError(f"{name} is in {owner[name]} and in {place}: one of them decides how much it gets")
                owner[name] = place
        for name, passes in self.epochs.items():
            if passes > self.max_epochs:
                raise ValueError(f"epochs.{name}: {passes:g} is more than max_epochs, {self.max_epochs:g}: raise that")
        return self

    @model_validator(mode="after")
    def _weights_say_something(self) -> Self:
        fixed = {**self.budgets, **self.epochs}
        for place, weights in (("weights", self.weights), *_places_of(self.phases)):
            if (weights or place != "weights") and not any(weights.values()) and not fixed:
                raise ValueError(f"{place}: no name has a weight: nothing would be read")
        if self.temperature != 1 and self.weights and OTHERS not in self.weights:
            raise ValueError("temperature: every name has a weight, so it decides nothing; leave it out, or weigh `*`")
        return self

    @model_validator(mode="after")
    def _phases_decide_alone(self) -> Self:
        if not self.phases:
            return self
        if self.weights or self.budgets or self.epochs:
            raise ValueError("phases: each has its weights; leave out weights, epochs and tokens of names beside them")
        if self.curriculum is not None:
            raise ValueError("phases, curriculum: both say when what is read; leave out one of them")
        total = sum(phase.share for phase in self.phases)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"phases: their shares add up to {total:g}, not to 1")
        return self

    def check_names(self, known: Iterable[str]) -> None:
        """Raise ValueError where a name is not known, or one of these is neither named nor among `*`."""
        known = sorted(known)
        for name in sorted(self.named.difference(known)):
            near = did_you_mean(name, known)
            raise ValueError(f"{name}: there is no such {self.by}{near}. There are {', '.join(first_few(known, 20))}")
        for place, weights in (("weights", self.weights), *_places_of(self.phases)):
            silent = [name for name in known if name not in {*weights, *self.budgets, *self.epochs}]
            if weights and OTHERS not in weights and silent:
                names = ", ".join(first_few(silent, 5))
                raise ValueError(f"{place}: nothing is said of {names}: give a weight (0: leave out), or `*` one")


class MixingConfig(MixConfig):
    """A mix, and how long the training is that it is for."""

    training_tokens: int = Field(ge=1, description="Tokens that pretraining reads, repeats counted.")

    @property
    def total(self) -> int:
        """Tokens of the mix; more than its names may be repeated for are not drawn."""
        return self.tokens if isinstance(self.tokens, int) else self.training_tokens


def _places_of(phases: Iterable[PhaseConfig]) -> list[tuple[str, dict[str, float]]]:
    return [(f"phases.{number}.weights", phase.weights) for number, phase in enumerate(phases)]
