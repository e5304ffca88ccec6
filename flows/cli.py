"""The command line. Its commands stand in `flows/commands/`, a module a subject.

Exit status: 0 done; 2 an error that the user can mend (a message, no traceback); 1 any other failure;
130 interrupted, and the next run goes on where this one stopped.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from flows.commands import build, look, speak, upkeep
from storage.errors import LlmillError, refusal

COMMANDS = (build, look, speak, upkeep)  # in the order of the help


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the `llmill` command."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = options.command(options)
        sys.stdout.flush()
    except LlmillError as error:
        print(f"llmill: {error}", file=sys.stderr)
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
        print(f"llmill: {told}", file=sys.stderr)
        status = told.exit_status
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
    for module in COMMANDS:
        module.add_commands(commands)
    return parser


if __name__ == "__main__":
    main()
