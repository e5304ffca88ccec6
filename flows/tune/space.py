"""The space of a search: one YAML document that says by what figure, and over which fields of the recipe.

```yaml
figure: finetune.answer_bits_per_byte
best: lowest
method: tpe
fields:
  finetune.matrix_rate: {low: 0.003, high: 0.03, log: true}
  finetune.pairs_per_step: {choices: [16, 32, 64]}
```

What is wrong in it is found before anything runs: `check_space` asks the recipe itself about each end and each choice.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from flows.build import Recipe, building
from flows.recipe import document_with
from flows.tune.figure import SearchedFigure, find_figure
from flows.validation import explain, explain_one
from storage.errors import ConfigError
from storage.yaml_files import read_yaml, yaml_mapping
from tasks.engine.config import StageConfig
from tasks.engine.planner import ReachedTarget
from tasks.engine.stage import Output, Pending, Stage
from tasks.tune.trials import Settings
from tasks.tune.values import Values

MAX_COMBINATIONS = 100_000  # of a grid


class Space(StageConfig):
    """What is searched, by what figure and how."""

    figure: str = Field(description="STAGE.FIGURE: a figure of a stage's summary, or a score: evaluate.NAME/METRIC.")
    best: Literal["lowest", "highest"] = Field(description="Which end of the figure is good.")
    method: Literal["grid", "random", "tpe"] = Field("tpe", description="How values are chosen.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of what is drawn: the same seed, the same trials.")
    stop_bad: bool = Field(True, description="End a trial whose validation is worse than the median of those before.")
    fields: dict[str, Values] = Field(min_length=1, max_length=100, description="Field of the recipe -> its values.")

    @model_validator(mode="after")
    def _grid_is_finite(self) -> Self:
        if self.method == "grid":
            endless = [path for path, values in self.fields.items() if values.all is None]
            if endless:
                raise ValueError(f"fields.{endless[0]}: a grid needs choices, or a range with a step")
            if self.combinations is None:
                raise ValueError(f"fields: more than {MAX_COMBINATIONS:,} combinations; a grid runs them all")
        return self

    @property
    def combinations(self) -> int | None:
        """How many combinations of values there are; None where they are too many to be counted."""
        counts = [len(values.all) if values.all is not None else None for values in self.fields.values()]
        product = math.prod(count for count in counts if count is not None)
        return None if None in counts or product > MAX_COMBINATIONS else product

    def grid(self) -> Iterator[Settings]:
        """All combinations in the order of the file, the last field changing fastest."""
        every = [values.all or () for values in self.fields.values()]
        for combination in itertools.product(*every):
            yield dict(zip(self.fields, combination, strict=True))


def load_space(path: Path) -> Space:
    """Read and validate a space file; raises ConfigError that names the file, the field and what to do."""
    return _validated(read_yaml(path, *_WHAT), str(path))


def space_in(text: str, where: str) -> Space:
    """The space that a text holds, such as a field of a form."""
    return _validated(yaml_mapping(text.encode(), where, *_WHAT), where)


def _validated(document: Any, where: str) -> Space:
    try:
        return Space.model_validate(document)
    except ValidationError as error:
        raise ConfigError(explain(where, error, Space)) from None


_WHAT = "space", f"fields ({', '.join(Space.model_fields)})"  # as errors say it


def own_settings(space: Space, recipe: Recipe) -> Settings:
    """What the recipe itself says in the fields of a space; for a field below an empty section None."""
    document = recipe.model_dump(mode="json")
    return {path: _value_at(document, path.split(".")) for path in space.fields}


def _value_at(document: Any, names: Sequence[str]) -> Any:
    for name in names:
        if isinstance(document, list):
            document = document[int(name)] if name.isdigit() and int(name) < len(document) else None
        else:
            document = document.get(name) if isinstance(document, dict) else None
    return document


def check_search(space: Space, recipe: Recipe, where: str) -> tuple[SearchedFigure, tuple[str, ...]]:
    """The figure of a search, and the stages up to it that differ between its trials; raises ConfigError."""
    figure = find_figure(space.figure, recipe, where)
    return figure, check_space(space, recipe, figure.stage, where)


def check_space(space: Space, recipe: Recipe, target: str, where: str) -> tuple[str, ...]:
    """The stages up to the target that differ between trials, in the order of the flow.

    Raises ConfigError, a line for each fault: a field that does not exist, a value that the field does not take (a
    combination that the recipe refuses is found when it comes), a field that changes nothing up to the target.
    """
    faults = []
    differing: dict[str, None] = {}
    for path, values in space.fields.items():
        found = dict.fromkeys(fault for value in values.probes for fault in _faults(recipe, path, value))
        faults += [f"fields.{fault}" for fault in found]
        if found:
            continue
        changed = _stages_changed(recipe, path, values, target)
        if changed is not None and not changed:
            faults.append(f"fields.{path}: changes nothing that {space.figure} depends on")
        differing |= dict.fromkeys(changed or ())
    if faults:
        raise ConfigError(
            f"{where}: " + (faults[0] if len(faults) == 1 else "\n  " + "\n  ".join(["", *faults]).strip())
        )
    return tuple(name for name in building(recipe).stage_names if name in differing)


def _faults(recipe: Recipe, path: str, value: Any) -> Iterator[str]:
    """What is wrong with one value of one field, whatever the others are."""
    try:
        document = document_with(recipe, {path: value}, path)
    except ConfigError as error:
        yield str(error)
        return
    try:
        Recipe.model_validate(document)
    except ValidationError as error:
        names = tuple(path.split("."))
        for details in error.errors(include_url=False):
            place = tuple(str(part) for part in details["loc"])
            shared = min(len(place), len(names))
            about_several = details["type"] == "value_error" and len(place) < len(names)
            if place[:shared] == names[:shared] and not about_several:
                yield explain_one(details, Recipe)


def _stages_changed(recipe: Recipe, path: str, values: Values, target: str) -> list[str] | None:
    """The stages whose settings differ between two values of a field; None where no value goes with the others."""
    found = []
    for value in values.probes:
        try:
            found.append(_stage_settings(Recipe.model_validate(document_with(recipe, {path: value}, path)), target))
        except ValidationError:  # this value does not go with the rest of the recipe
            continue
    own = _stage_settings(recipe, target)
    if not found:
        return None
    return [name for name in own if any(one.get(name) != own[name] for one in found)]


class _Settings:
    """An engine that notes the settings of each stage, and builds none."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.found: dict[str, Mapping[str, Any]] = {}

    def call(self, stage: Stage, config: StageConfig, inputs: Mapping[str, Output]) -> Output:
        self.found[stage.name] = config.identity()
        if stage.name == self._target:
            raise ReachedTarget
        return Pending(stage.kind)


def _stage_settings(recipe: Recipe, target: str) -> dict[str, Mapping[str, Any]]:
    engine = _Settings(target)
    building(recipe).walk(recipe, engine)
    return engine.found
