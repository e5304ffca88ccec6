"""The short form of the deployments: which recipe, the dials that people turn, and lines `path=value` for the rest.

An empty field leaves what the recipe says. The dials take their bounds and descriptions from the recipe's own fields,
and become such lines themselves, so that a form is refused with the words in which the command line refuses `--set`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.build import BUILD, Recipe
from flows.recipe import known_recipes, named_recipe
from flows.tune.space import Space, check_search, load_space, space_in
from storage.errors import ConfigError

Schema = dict[str, Any]

DIALS = {  # field of the form -> field of the recipe
    "size": "pretrain.size",
    "tokens": "pretrain.tokens",
    "vocabulary_size": "tokenizer.vocabulary_size",
    "epochs": "finetune.epochs",
}
INSTEAD = {"tokens": "pretrain.steps", "epochs": "finetune.steps"}  # the field that a dial replaces
SOURCES = ("collect.docstrings", "collect.synthetic")  # the sources that files of one's own replace

_TEXTS = {
    "source": "A file or folder of your own text, by its whole path, instead of the recipe's sources.",
    "tasks": "Benchmarks: tasks of lm-eval by name, or whole paths of task files, one a line.",
    "settings": "Any field of the recipe as path=value, one a line: filter.min_words=20",
}
_SEARCH: dict[str, Schema] = {
    "space": {
        "type": "string",
        "description": "What is searched, as YAML, or the whole path of a space file: figure, best, fields.",
    },
    "trials": {
        "type": "integer",
        "minimum": 1,
        "maximum": 10_000,
        "default": 20,
        "description": "Trials in all, those of earlier runs counted.",
    },
    "minutes": {"type": "number", "exclusiveMinimum": 0, "description": "End after so many minutes; empty: no limit."},
}
_SWITCHES = {
    "only_if_new": "End at once where sources, settings, code and champion are what the last retraining has seen.",
    "approve": "Wait for a person's yes on the run's page before a better model is promoted.",
}
BUILD_FIELDS = ("recipe", "source", *DIALS, "tasks", "settings", "to", "force")
RETRAIN_FIELDS = ("recipe", "source", "settings", "only_if_new", "approve", "force")
TUNE_FIELDS = ("recipe", "settings", "space", "trials", "minutes")


def form_recipe(values: Mapping[str, Any]) -> Recipe:
    """The recipe that a form asks for; raises ConfigError as the command line does."""
    return named_recipe(str(values["recipe"]), settings_of(values))


def settings_of(values: Mapping[str, Any]) -> list[str]:
    """What a form changes in its recipe, as lines `path=value`; the user's own lines come last and win."""
    lines: list[str] = []
    source = (values.get("source") or "").strip()
    if source:
        lines += [f"{field}=null" for field in SOURCES]
        lines.append(f"collect.files={json.dumps([{'name': 'own', 'path': source}])}")
    for field, path in DIALS.items():
        if values.get(field) is not None:
            if field in INSTEAD:
                lines.append(f"{INSTEAD[field]}=null")
            lines.append(f"{path}={json.dumps(values[field])}")
    tasks = [{"path" if "/" in name else "name": name} for name in _lines(values.get("tasks"))]
    if tasks:
        lines.append(f"evaluate.tasks={json.dumps(tasks)}")
    return lines + _lines(values.get("settings"))


def form_schema(fields: Sequence[str], recipes: Iterable[str] | None = None) -> dict[str, Schema]:
    """The JSON schemas of a form's fields, as Prefect's UI draws them; `recipes` are the ones to choose from."""
    known = sorted(recipes if recipes is not None else known_recipes())
    schemas = {
        "recipe": {"type": "string", "enum": known, "description": "A recipe that ships, or one that was deployed."},
        **{field: _dial(path) for field, path in DIALS.items()},
        **{field: {"type": "string", "description": text} for field, text in _TEXTS.items()},
        **{field: {"type": "boolean", "default": False, "description": text} for field, text in _SWITCHES.items()},
        **_SEARCH,
        "to": {
            "type": "string",
            "enum": list(BUILD.stage_names),
            "description": "The last stage to run; empty: all run.",
        },
        "force": {
            "type": "array",
            "items": {"type": "string", "enum": list(BUILD.stage_names)},
            "description": "Stages to build though they could be reused.",
        },
    }
    return {
        field: {"title": field.replace("_", " ").capitalize(), "position": number, **schemas[field]}
        for number, field in enumerate(fields)
    }


def refusal_of_form(fields: Iterable[str], values: Mapping[str, Any]) -> tuple[str, str] | None:
    """The field to name and the message, where a form that was filled in cannot be carried out; else None.

    `fields` are those of any form in Prefect's UI: one that is not ours is never refused.
    """
    if set(fields) not in map(set, (BUILD_FIELDS, RETRAIN_FIELDS, TUNE_FIELDS)) or "recipe" not in values:
        return None
    try:
        recipe = form_recipe(values)
    except ConfigError as error:
        return "settings" if _lines(values.get("settings")) else "recipe", str(error)
    if "space" in fields:
        try:
            check_search(form_space(values), recipe, "space")
        except ConfigError as error:
            return "space", str(error)
    return None


def form_space(values: Mapping[str, Any]) -> Space:
    """The space that a form holds, or names by its path; raises ConfigError as the command line does."""
    text = (values.get("space") or "").strip()
    return load_space(Path(text)) if text.startswith("/") and "\n" not in text else space_in(text, "space")


def _dial(path: str) -> Schema:
    """The schema of a recipe's field without the null that means "as in the recipe", its bounds in words."""
    section, name = path.split(".")
    config: Any = Recipe.model_fields[section].annotation
    schema: Schema = config.model_json_schema()["properties"][name]
    choices = [choice for choice in schema.get("anyOf", [schema]) if choice.get("type") != "null"]
    (kind,) = choices
    bounds = [f"{kind[bound]:,}" for bound in ("minimum", "exclusiveMinimum", "maximum") if bound in kind]
    span = f" {' to '.join(bounds)}." if bounds else ""
    wanted = ("type", "enum", "minimum", "exclusiveMinimum", "maximum")
    return {
        **{name: kind[name] for name in wanted if name in kind},
        "description": f"{schema['description']}{span} Empty: as in the recipe.",
    }


def _lines(text: str | None) -> list[str]:
    return [line.strip() for line in (text or "").splitlines() if line.strip()]
