"""The command line. Its commands stand in `flows/commands/`, a module a subject.

Exit status: 0 done; 2 an error that the user can mend (a message, no traceback); 1 any other failure;
130 interrupted, and the next run goes on where this one stopped.
"""

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from flows.commands import build, look, operate, retrain, speak, upkeep
from storage.errors import LlmillError, StoreError, refusal

COMMANDS = (build, retrain, operate, look, speak, upkeep)  # in the order of the help


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the `llmill` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter ends nothing
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _check_current_folder()
        status = options.command(options)
        sys.stdout.flush()
    except LlmillError as error:
        _tell(error)
        status = error.exit_status
    except KeyboardInterrupt:
        print("llmill: interrupted; run the same command again to go on", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:
        told = refusal(error, Path(os.environ.get("LLMILL_HOME", ".llmill")))
        if told is None:
            raise
        _tell(told)
        status = told.exit_status
    sys.exit(status)


def _tell(error: LlmillError) -> None:
    """Print a message; the control characters of a file's name reach no terminal."""
    shown = (letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in str(error))
    print(f"llmill: {''.join(shown)}", file=sys.stderr)


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise StoreError("the current folder is gone: change to one that exists (cd)") from None


def _interrupt(signal_number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmill",
        description="From raw text to a tested, servable language model.",
        epilog="Everything is written under $LLMILL_HOME (default: .llmill in the current folder).",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_commands(commands)
    return parser


if __name__ == "__main__":
    from flows.start import main as start

    start()
