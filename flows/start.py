"""Where `llmill` starts: what builds runs from a snapshot of the code, all else from the code itself.

Imports nothing of llmill by itself: what is imported before the snapshot is taken would not come from it.
"""

import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

BUILDING = ("run", "retrain", "retry")  # the commands that execute stages


def main() -> NoReturn:
    """Entry point of the `llmill` command."""
    if sys.argv[1:2] and sys.argv[1] in BUILDING:
        enter_snapshot()
    try:
        from flows.cli.main import main

        main()
    except SyntaxError as error:  # a file that is being edited
        from storage.snapshot import original

        place = original(Path(error.filename or "?"))
        print(f"llmill: {place}, line {error.lineno}: the code does not parse ({error.msg})", file=sys.stderr)
        sys.exit(2)


def enter_snapshot() -> None:
    """Run from a snapshot from here on. Where no home can be written the command itself says so."""
    from storage.errors import LlmillError
    from storage.home import prepare_home
    from storage.snapshot import enter

    with suppress(LlmillError, OSError):
        enter(prepare_home())


if __name__ == "__main__":  # python -m flows.start MODULE ARGUMENTS: run a module from a snapshot
    import os
    import runpy

    if os.environ.get("LLMILL_HOME"):
        enter_snapshot()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
