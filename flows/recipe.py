"""The recipe: one typed document that says everything a run can be told.

A section a stage; `execution` says how a run is carried out and enters no key. Recipes are YAML files; those that
ship stand in `flows/recipes/`. `--set path=value` overrides single fields before validation.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from storage.errors import ConfigError, did_you_mean
from storage.files import is_utf8
from tasks.collect.config import CollectConfig
from tasks.config import StageConfig
from tasks.context import Execution
from tasks.deduplicate import DeduplicateConfig
from tasks.evaluate import EvaluateConfig
from tasks.filter import FilterConfig
from tasks.finetune import FinetuneConfig
from tasks.pretrain import PretrainConfig
from tasks.release import ReleaseConfig
from tasks.tokenize import TokenizeConfig
from tasks.tokenizer import TokenizerConfig

SHIPPED = Path(__file__).parent / "recipes"
DEFAULT = "quick"
MAX_RECIPE_BYTES = 1 << 20


class Recipe(StageConfig):
    """Everything that a run can be told."""

    name: str = Field(
        "custom", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="Name of the recipe; runs are named after it."
    )
    collect: CollectConfig = Field(title="Collect", description="Where the text comes from.")
    deduplicate: DeduplicateConfig = Field(
        DeduplicateConfig(), title="Deduplicate", description="Exact and near duplicates."
    )
    filter: FilterConfig = Field(FilterConfig(), title="Filter", description="Quality rules and redaction.")
    tokenizer: TokenizerConfig = Field(TokenizerConfig(), title="Tokenizer", description="The BPE vocabulary.")
    tokenize: TokenizeConfig = Field(TokenizeConfig(), title="Tokenize", description="Token shards.")
    pretrain: PretrainConfig = Field(PretrainConfig(), title="Pretrain", description="The base model.")
    finetune: FinetuneConfig = Field(FinetuneConfig(), title="Fine-tune", description="Supervised on pairs.")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), title="Evaluate", description="Scores on held-out data.")
    release: ReleaseConfig = Field(ReleaseConfig(), title="Release", description="The folder that is served.")
    execution: Execution = Field(
        Execution(), title="Execution", description="How the run is carried out; changes no result."
    )

    @model_validator(mode="after")
    def _stride_fits(self) -> Self:
        context, stride = self.pretrain.chosen_context_length, self.evaluate.stride
        if stride is not None and stride > context:
            raise ValueError(f"evaluate.stride ({stride}) is more than the model's context of {context} tokens")
        return self


def shipped() -> list[str]:
    """Names of the recipes that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_recipe(name_or_path: str, settings: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe; raises ConfigError that names the file, the field and the mend."""
    path = _find(name_or_path)
    document = _read_yaml(path)
    document.setdefault("name", path.stem)
    for setting in settings:
        _override(document, setting)
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_explain(path, error)) from None
    return _with_absolute_sources(recipe, path.parent)


def _find(name_or_path: str) -> Path:
    path = SHIPPED / f"{name_or_path}.yaml"
    if path.is_file() and "/" not in name_or_path:
        return path
    given = expand_user(name_or_path)
    if given.is_file():
        return given.absolute()
    if given.is_dir():
        raise ConfigError(f"{name_or_path}: is a folder. Give a recipe file (.yaml) or one of: {', '.join(shipped())}")
    if given.suffix in (".yaml", ".yml") or "/" in name_or_path:
        raise ConfigError(f"{name_or_path}: no such file. Shipped recipes: {', '.join(shipped())}")
    raise ConfigError(
        f"recipe {name_or_path!r} is unknown{did_you_mean(name_or_path, shipped())}. "
        f"Shipped recipes: {', '.join(shipped())}; or give the path of a YAML file"
    )


def expand_user(path: str) -> Path:
    """A path with `~` and `~user` resolved; ConfigError for a user who is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{path}: the home folder of this user is not known; write the path out") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a repeated key is an error and aliases are refused: a recipe needs neither."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem="aliases are not used in recipes", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_RECIPE_BYTES:,} bytes; this is no recipe")
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply for a recipe") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not valid YAML in UTF-8: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of sections ({', '.join(Recipe.model_fields)})")
    return document


def _override(document: dict[str, Any], setting: str) -> None:
    """Carry out one `--set path=value`; the value is read as YAML."""
    path, separator, text = setting.partition("=")
    if not separator or not path.strip():
        raise ConfigError(f"--set {setting}: write it as path=value, such as filter.min_words=20")
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        raise ConfigError(f"--set {setting}: the value is not valid YAML; quote it") from None
    names = path.strip().split(".")
    target: Any = document
    for depth, name in enumerate(names):
        last = depth == len(names) - 1
        if isinstance(target, list):
            if not name.isdigit() or int(name) >= len(target):
                raise ConfigError(f"--set {setting}: {'.'.join(names[:depth])} has no entry {name}")
            if last:
                target[int(name)] = value
            else:
                target = target[int(name)]
        elif isinstance(target, dict):
            if name.isdigit():
                raise ConfigError(f"--set {setting}: {'.'.join(names[:depth])} has no entry {name}; set it whole")
            if last:
                target[name] = value
            else:
                target = target.setdefault(name, {})
                if target is None:
                    raise ConfigError(f"--set {setting}: {'.'.join(names[: depth + 1])} is null; set it whole")
        else:
            raise ConfigError(f"--set {setting}: {'.'.join(names[:depth])} has no fields")


def _explain(path: Path, error: ValidationError) -> str:
    """All that is wrong with a recipe, a line each, with the nearest known name for an unknown one."""
    lines = [_explain_one(details) for details in error.errors(include_url=False)]
    return f"{path}: " + ("; ".join(lines) if len(lines) == 1 else "\n  " + "\n  ".join(lines))


_MESSAGES = {  # where pydantic speaks of Python's types
    "model_type": "input should be a mapping of fields",
    "dict_type": "input should be a mapping of fields",
    "tuple_type": "input should be a list",
}


def _explain_one(details: ErrorDetails) -> str:
    location = list(details["loc"])
    where = ".".join(str(part) for part in location)
    if details["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        return f"{where}: unknown key{did_you_mean(str(location[-1]), known)}. Known: {', '.join(known)}"
    if details["type"] == "missing":
        return f"{where}: is required"
    if details["type"] == "value_error":  # raised by a model of ours, about several fields
        return f"{where}: {details['ctx']['error']}".removeprefix(": ")
    shown = repr(details["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    message = _MESSAGES.get(details["type"], details["msg"][0].lower() + details["msg"][1:])
    return f"{where}: {message} (it is {shown})"


def _fields_at(location: Sequence[int | str]) -> list[str]:
    """The field names of the model at a place in the recipe."""
    model: Any = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation if part in getattr(model, "model_fields", {}) else None
        candidates = [annotation, *get_args(annotation), *(b for a in get_args(annotation) for b in get_args(a))]
        models = [one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def _with_absolute_sources(recipe: Recipe, folder: Path) -> Recipe:
    """Relative paths of a recipe mean: relative to the recipe's file; `--set` and shipped recipes: to the cwd."""
    base = Path.cwd() if folder == SHIPPED else folder
    if not is_utf8(str(base)):
        raise ConfigError(f"{base}: the name of this folder is not UTF-8. Rename it")

    def absolute(sources: Sequence[Any], *fields: str) -> tuple[Any, ...]:
        return tuple(
            source.model_copy(
                update={
                    field: os.path.normpath(base / expand_user(given))
                    for field in fields
                    if (given := getattr(source, field)) is not None
                }
            )
            for source in sources
        )

    collect = {"files": absolute(recipe.collect.files, "path"), "pairs": absolute(recipe.collect.pairs, "path")}
    benchmarks = {"tasks": absolute(recipe.evaluate.tasks, "path", "data")}
    return recipe.model_copy(
        update={
            "collect": recipe.collect.model_copy(update=collect),
            "evaluate": recipe.evaluate.model_copy(update=benchmarks),
        }
    )
