"""The command line. Its commands are in `flows/cli/`, one module for each subject.

Exit status: 0 done; 2 an error that the user can fix (a message, no traceback); 1 any other failure;
130 interrupted, and the next run continues where this one stopped.
"""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast
from unicodedata import category

from flows.cli import (
    classify,
    datasheet,
    feedback,
    generate,
    inspect,
    keys,
    maintain,
    operate,
    retrain,
    run,
    serve,
    size,
    tune,
    votes,
)
from flows.cli.options import Parser, print_json
from flows.terminal.columns import for_stderr
from storage.addresses import keep_loopback_direct
from storage.errors import LlmillError, OutputError, StoreError, refusal
from storage.fingerprint import many_small_objects

COMMANDS = (
    run,
    tune,
    retrain,
    operate,
    size,
    inspect,
    datasheet,
    generate,
    classify,
    serve,
    keys,
    feedback,
    votes,
    maintain,
)  # in the order of the help


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the `llmill` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter ends nothing
    keep_loopback_direct()
    with many_small_objects():  # what is imported stays
        options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup a run outlives its terminal
        signal.signal(signal.SIGHUP, _interrupt)
    stdout = sys.stdout
    sys.stdout = cast(TextIO, _Output(stdout))
    try:
        _check_current_folder()
        status = options.command(options)
        sys.stdout.flush()
    except LlmillError as error:
        _print_error(error, options)
        status = error.exit_status
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # one more would end us by a signal
            signal.signal(number, signal.SIG_IGN)
        print("llmill: interrupted; run the same command again to go on", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:
        refused = refusal(error, Path(os.environ.get("LLMILL_HOME", ".llmill")))
        if refused is None:
            raise
        _print_error(refused, options)
        status = refused.exit_status
    finally:
        sys.stdout = stdout
    sys.exit(status)


class _Output:
    """Standard output whose failures name it: a full disk behind a redirect is not a full home."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text; raises OutputError where the stream refuses it."""
        return self._checked(lambda: self._stream.write(text))

    def flush(self) -> None:
        """Hand on what is buffered; raises OutputError where the stream refuses it."""
        self._checked(self._stream.flush)

    def _checked(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except BrokenPipeError:
            raise
        except OSError as error:
            with suppress(OSError, ValueError):  # what is left in its buffer goes nowhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            raise OutputError(f"standard output cannot be written: {error.strerror}") from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _print_error(error: LlmillError, options: argparse.Namespace) -> None:
    """Print a message, with `--json` as an object too; the control characters of a file's name reach no terminal."""
    if getattr(options, "json", False) and not error.reported and not isinstance(error, OutputError):
        print_json({"error": str(error)})
    print(for_stderr(f"llmill: {''.join(map(_shown, str(error)))}"), file=sys.stderr)


def _shown(letter: str) -> str:
    """A letter as it is, a space of any width too, and what would move the cursor or the text by its number."""
    harmless = letter.isprintable() or letter in "\n\t" or category(letter) == "Zs"
    return letter if harmless else ascii(letter)[1:-1]


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise StoreError("the current folder is gone: change to one that exists (cd)") from None


def _interrupt(signal_number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


class _Version(argparse.Action):
    """`--version`: that of the installed package, looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        import importlib.metadata

        print(f"llmill {importlib.metadata.version('llmill')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="llmill",
        description="From raw text to a tested, servable language model.",
        epilog="Everything is written under $LLMILL_HOME (default: .llmill in the current folder).",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_commands(commands)
    return parser


if __name__ == "__main__":
    from flows.start import main as start

    start()
