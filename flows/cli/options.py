"""What the commands share: options of a recipe, bounded numbers, JSON on stdout."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from flows.terminal.columns import WIDTH, folded, for_stderr

if TYPE_CHECKING:
    from storage.store.local import Store


class Parser(argparse.ArgumentParser):
    """A parser whose help and errors fit 80 columns."""

    def __init__(self, **options: Any) -> None:
        width = min(WIDTH, shutil.get_terminal_size().columns) - 2
        super().__init__(**{"formatter_class": partial(argparse.HelpFormatter, width=width), **options})

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, for_stderr(f"{self.prog}: error: {message}") + "\n")


def say(text: str, file: TextIO | None = None) -> None:
    """Print a text for a person in 80 columns."""
    print(folded(text), file=file)


def home_store() -> "Store":
    """The store of the home in force, with the shared one behind it where there is one."""
    from storage.home import home
    from storage.store.shared import open_store

    return open_store(home())


def part_folder(place: str, part: str) -> Path:
    """A folder, or that of a part of what a reference means."""
    from flows.inspect.references import find_part

    folder = Path(place).expanduser()
    return folder if folder.is_dir() else find_part(home_store(), place, part).path


def add_json_option(parser: argparse.ArgumentParser, what: str = "one JSON object on stdout") -> None:
    """`--json`, which every command has that prints a result."""
    parser.add_argument("--json", action="store_true", help=what)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Which recipe, and what to override in it."""
    from flows.recipe import DEFAULT, shipped

    parser.add_argument(
        "recipe", nargs="?", default=DEFAULT, metavar="RECIPE", help=f"{', '.join(shipped())}, or a YAML file"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a field: filter.min_words=20"
    )


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Which recipe, what to override, which stages."""
    add_recipe(parser)
    parser.add_argument("--to", metavar="STAGE", help="the last stage to run")
    parser.add_argument("--force", action="append", default=[], metavar="STAGE", help="build though it could be reused")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="STAGE", help="keep a result whose code alone has changed"
    )
    add_json_option(parser, "one JSON object on stdout, all else on stderr")


def recipe_and_options(options: argparse.Namespace) -> tuple[Any, Any]:
    """The validated recipe, and the engine's options."""
    from flows.recipe import load_recipe
    from tasks.engine.planner import Options

    recipe = load_recipe(options.recipe, options.set)
    return recipe, Options(options.to, frozenset(options.force), frozenset(options.keep))


_KINDS = {int: "a whole number", float: "a number"}


def between(low: float, high: float, kind: type) -> Any:
    """An argparse type: a number of this kind from `low` to `high`, both included."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {_KINDS[kind]}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    return parse


def show(value: Any, text: Callable[[], str], options: argparse.Namespace) -> None:
    """A command's result: its value as JSON under `--json`, else its text for a person."""
    if options.json:
        print_json(value)
    else:
        say(text())


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
