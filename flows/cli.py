"""The command line: `llmill run`, `plan`, `generate`, `ui`, `runs`, `inspect`, `verify`.

Exit status: 0 done; 2 an error that the user can mend (a message, no traceback); 1 any other failure;
130 interrupted, and the next run goes on where this one stopped.
"""

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from storage.errors import LlmillError

EXAMPLE_PROMPT = "def add_edge(graph, source, target)"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the `llmill` command."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = options.command(options)
    except LlmillError as error:
        print(f"llmill: {error}", file=sys.stderr)
        status = error.exit_status
    except KeyboardInterrupt:
        print("llmill: interrupted; run the same command again to go on", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)


def _interrupt(signal_number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmill",
        description="From raw text to a tested, servable language model.",
        epilog="Everything is written under $LLMILL_HOME (default: .llmill in the current folder).",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="build what cannot be reused, from sources to a released model")
    _add_recipe_options(run)
    run.add_argument("--plain", action="store_true", help="without Prefect and MLflow")
    run.set_defaults(command=_run)

    plan = commands.add_parser("plan", help="what a run would do, why and how long; runs nothing")
    _add_recipe_options(plan)
    plan.set_defaults(command=_plan)

    generate = commands.add_parser("generate", help="ask the newest release")
    generate.add_argument("prompt", metavar="PROMPT", help=f'such as "{EXAMPLE_PROMPT}"')
    generate.add_argument("--release", metavar="REF", default="latest/release", help="default: latest/release")
    generate.add_argument("--max-new-tokens", type=_between(1, 100_000, int), default=64, help="default: 64")
    generate.add_argument("--temperature", type=_between(0, 10, float), default=0.0, help="0 (default): the likeliest")
    generate.add_argument("--top-p", type=_between(0, 1, float), default=1.0, help="share of the likeliest mass kept")
    generate.add_argument("--seed", type=_between(0, 2**31, int), default=0, help="default: 0")
    generate.add_argument("--raw", action="store_true", help="continue the text as it is: no chat form")
    generate.set_defaults(command=_generate)

    ui = commands.add_parser("ui", help="open the Prefect and MLflow pages of this home, until Ctrl-C")
    ui.add_argument("--prefect-port", type=_between(1, 65535, int), default=4200, help="default: 4200")
    ui.add_argument("--mlflow-port", type=_between(1, 65535, int), default=5000, help="default: 5000")
    ui.set_defaults(command=_ui)

    runs = commands.add_parser("runs", help="what ran: when, recipe, status, built and reused")
    runs.add_argument("--json", action="store_true", help="one JSON list on stdout")
    runs.set_defaults(command=_runs)

    inspect = commands.add_parser("inspect", help="an artifact: summary, parts, lineage")
    inspect.add_argument("reference", metavar="REF", help="a digest's start, RUN/STAGE or latest/STAGE")
    inspect.add_argument("--json", action="store_true", help="one JSON object on stdout")
    inspect.set_defaults(command=_inspect)

    verify = commands.add_parser("verify", help="re-hash everything in the store")
    verify.set_defaults(command=_verify)
    return parser


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    from flows.recipe import DEFAULT, shipped

    parser.add_argument(
        "recipe", nargs="?", default=DEFAULT, metavar="RECIPE", help=f"{', '.join(shipped())}, or a YAML file"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a field: filter.min_words=20"
    )
    parser.add_argument("--to", metavar="STAGE", help="the last stage to run")
    parser.add_argument("--force", action="append", default=[], metavar="STAGE", help="build though it could be reused")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="STAGE", help="keep a result whose code alone has changed"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, all else on stderr")


def _between(low: float, high: float, kind: type) -> Any:
    """An argparse type: a number within bounds."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no {kind.__name__}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    return parse


def _recipe_and_options(options: argparse.Namespace) -> tuple[Any, Any]:
    from flows.recipe import load_recipe
    from tasks.engine import Options

    recipe = load_recipe(options.recipe, options.set)
    return recipe, Options(options.to, frozenset(options.force), frozenset(options.keep))


def _run(options: argparse.Namespace) -> int:
    from flows.run import execute
    from flows.text import Unbroken

    recipe, run_options = _recipe_and_options(options)
    out: TextIO = sys.stderr if options.json else Unbroken(sys.stdout)  # type: ignore[assignment]
    report, error = execute(recipe, run_options, out, plain=options.plain)
    if options.json:
        _print_json(report)
    if isinstance(error, LlmillError | KeyboardInterrupt):
        raise error
    if error is not None:
        traceback.print_exception(error)
        return 1
    return 0


def _plan(options: argparse.Namespace) -> int:
    from flows.plan import make_plan
    from flows.text import plan_text
    from storage.home import home
    from storage.store import Store

    recipe, run_options = _recipe_and_options(options)
    plan = make_plan(Store(home()), recipe, run_options)
    if options.json:
        _print_json({"stages": [line.record() for line in plan]})
    else:
        print(plan_text(plan))
    return 0


def _generate(options: argparse.Namespace) -> int:
    from flows.references import find_part
    from storage.home import home
    from storage.store import Store
    from tasks.generation import generate_text

    release = find_part(Store(home()), options.release, "release")
    pieces = generate_text(
        release.path,
        options.prompt,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        raw=options.raw,
    )
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    return 0


def _ui(options: argparse.Namespace) -> int:
    from flows.pages import serve_pages
    from storage.home import prepare_home

    serve_pages(prepare_home(), options.prefect_port, options.mlflow_port)
    return 0


def _runs(options: argparse.Namespace) -> int:
    from flows.text import runs_text
    from storage.home import home
    from storage.runs import runs

    known = runs(home())
    if options.json:
        _print_json(known)
    else:
        print(runs_text(known))
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from flows.references import describe_reference
    from flows.text import inspect_text
    from storage.home import home
    from storage.store import Store

    description = describe_reference(Store(home()), options.reference)
    if options.json:
        _print_json(description)
    else:
        print(inspect_text(description))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from storage.home import home
    from storage.store import Store

    store = Store(home())
    damaged = artifacts = 0
    for digest in store.artifacts():
        artifacts += 1
        artifact = store.artifact(digest)
        wrong = store.artifact_damage(artifact, full=True) if artifact else ["manifest damaged"]
        for line in wrong:
            damaged += 1
            print(f"{artifact.stage if artifact else 'artifact'} {digest[:12]}: {line}")
    print(f"{artifacts} artifacts, {damaged} damaged parts" + (": the next run rebuilds them" if damaged else ""))
    return 1 if damaged else 0


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


if __name__ == "__main__":
    main()
