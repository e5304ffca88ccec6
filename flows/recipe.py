"""Recipe files: found by name or path, overridden, validated. `flows/build.py` has the recipe itself.

Recipes are YAML files; those that ship are in `flows/recipes/`, those that `llmill deploy` has saved in `recipes/` of
the home: both go by their names. `--set path=value` overrides single fields before validation.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from flows.build import Recipe
from flows.validation import explain
from storage.errors import ConfigError, did_you_mean
from storage.files import is_utf8, write_atomic
from storage.home import home
from storage.snapshot import original
from storage.yaml_files import Loader, read_yaml
from tasks.engine.config import locations, relocated

SHIPPED = Path(__file__).parent / "recipes"
DEFAULT = "quick"


def shipped() -> list[str]:
    """Names of the recipes that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def known_recipes() -> dict[str, Path]:
    """The files of the recipes that go by a name: those that ship, and those that were saved in this home."""
    saved = {path.stem: path for path in sorted(_saved().glob("*.yaml"))}
    return saved | {name: SHIPPED / f"{name}.yaml" for name in shipped()}


def load_recipe(name_or_path: str, settings: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe; raises ConfigError that names the file, the field and what to do."""
    path = _find(name_or_path)
    return _with_absolute_sources(_validated(*_read(path, settings)), path.parent)


def named_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """`load_recipe` where there is no current folder to start from, as in a worker: paths must be absolute."""
    path = known_recipes().get(name)
    if path is None:
        raise ConfigError(
            f"recipe {name!r} is unknown{did_you_mean(name, known_recipes())}. Known: {', '.join(known_recipes())}; "
            "`llmill deploy FILE` makes a recipe file known"
        )
    return validated_recipe(*_read(path, settings))


def save_recipe(recipe: Recipe) -> Path:
    """Keep a recipe in the home under its name; raises ConfigError where a recipe of that name ships."""
    if recipe.name in shipped():
        raise ConfigError(f"a recipe named {recipe.name!r} ships with llmill: give yours another name (the field name)")
    path = _saved() / f"{recipe.name}.yaml"
    document = document_with(recipe, {}, recipe.name)
    write_atomic(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())
    return path


def document_with(recipe: Recipe, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The document of a recipe, without what it leaves to the defaults, with other values at some dotted paths.

    Raises ConfigError that begins with `where` for a path that leads nowhere; the values are not validated.
    """
    document: dict[str, Any] = recipe.model_dump(mode="json", exclude_unset=True)
    for path, value in values.items():
        _set_field(document, path, value, where)
    return document


def _saved() -> Path:
    return home() / "recipes"


def _read(path: Path, settings: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The document of a recipe with what overrides it, and what to call it in messages."""
    document = read_yaml(path, "recipe", f"sections ({', '.join(Recipe.model_fields)})")
    document.setdefault("name", path.stem)
    for setting in settings:
        _override(document, setting)
    return document, " --set ".join([f"{original(path)} with", *settings]) if settings else str(original(path))


def validated_recipe(document: Any, where: str = "recipe") -> Recipe:
    """A recipe that no current folder goes with, as a form or a run file has it: its paths must be absolute."""
    recipe = _validated(document, where)
    for field, path in locations(recipe):
        if not expand_user(path).is_absolute():
            raise ConfigError(
                f"{where}: {field}: {path!r} is relative, and there is no folder that it would start from. "
                "Write the path from the root on"
            )
    return _with_absolute_sources(recipe, Path("/"))


def _validated(document: Any, where: str) -> Recipe:
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise ConfigError(explain(where, error, Recipe)) from None


def _find(name_or_path: str) -> Path:
    known = known_recipes()
    if name_or_path in known:
        return known[name_or_path]
    given = expand_user(name_or_path)
    if given.is_file():
        return given.absolute()
    if given.is_dir():
        raise ConfigError(f"{name_or_path}: is a folder. Give a recipe file (.yaml) or one of: {', '.join(known)}")
    if given.suffix in (".yaml", ".yml") or "/" in name_or_path:
        raise ConfigError(f"{name_or_path}: no such file. Known recipes: {', '.join(known)}")
    raise ConfigError(
        f"recipe {name_or_path!r} is unknown{did_you_mean(name_or_path, known)}. "
        f"Known recipes: {', '.join(known)}; or give the path of a YAML file"
    )


def expand_user(path: str) -> Path:
    """A path with `~` and `~user` resolved; ConfigError for a user who is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{path}: the home folder of this user is not known; write the path out") from None


def _override(document: dict[str, Any], setting: str) -> None:
    """Carry out one `--set path=value`; the value is read as YAML."""
    path, separator, text = setting.partition("=")
    if not separator or not path.strip():
        raise ConfigError(f"--set {setting}: write it as path=value, such as filter.min_words=20")
    try:
        value = yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        raise ConfigError(f"--set {setting}: the value is not valid YAML; quote it") from None
    _set_field(document, path.strip(), value, f"--set {setting}")


def _set_field(document: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set one field of a recipe's document by its dotted path; `where` begins the message of what cannot be set."""
    names = path.split(".")
    target: Any = document
    for depth, name in enumerate(names):
        last = depth == len(names) - 1
        if isinstance(target, list):
            if not name.isdigit() or int(name) >= len(target):
                raise ConfigError(f"{where}: {'.'.join(names[:depth])} has no entry {name}")
            if last:
                target[int(name)] = value
            else:
                target = target[int(name)]
        elif isinstance(target, dict):
            if name.isdigit():
                raise ConfigError(f"{where}: {'.'.join(names[:depth])} has no entry {name}; set it whole")
            if last:
                target[name] = value
            else:
                target = target.setdefault(name, {})
                if target is None:
                    raise ConfigError(f"{where}: {'.'.join(names[: depth + 1])} is null; set it whole")
        else:
            raise ConfigError(f"{where}: {'.'.join(names[:depth])} has no fields")


def _with_absolute_sources(recipe: Recipe, folder: Path) -> Recipe:
    """Relative paths of a recipe mean: relative to the recipe's file; `--set` and shipped recipes: to the cwd."""
    base = Path.cwd() if folder == SHIPPED else folder
    if not is_utf8(str(base)):
        raise ConfigError(f"{base}: the name of this folder is not UTF-8. Rename it")

    return relocated(recipe, lambda given: os.path.normpath(base / expand_user(given)))
