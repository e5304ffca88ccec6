"""Errors for the user.

Every error that the user can fix is an `LlmillError`: the command line prints its message without a
traceback and exits with status 2. Anything else is a bug or the machine's fault and exits with status 1.
A message names the file, line or field, says what is wrong there, and what to do. What the operating system refuses
(a full disk, a read-only folder) is made such an error in one place, `refusal`.
"""

import difflib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from storage.bystander import bystander


class LlmillError(Exception):
    """Something that the user can fix; the message says where and how."""

    exit_status = 2
    reported = False  # whether the `--json` object on stdout has it


class ConfigError(LlmillError):
    """A recipe, an option or an environment variable that cannot be used."""


class DataError(LlmillError):
    """Input data that cannot be used: missing, damaged, or not what the recipe says."""


class StoreError(LlmillError):
    """The home or the store cannot be read or written."""


class OutputError(LlmillError):
    """What a command prints can't be written where its output goes."""


class UnavailableError(LlmillError):
    """Somebody who is asked over the network does not answer, or not now: the same call may succeed later, and a stage
    that ends so is tried again."""


class TimeLimitError(LlmillError):
    """A stage took longer than the recipe allows."""


class StoppedError(LlmillError):
    """A run was ended on purpose before its end: it counts as interrupted, and can go on."""


@bystander
def exit_status(error: BaseException | None) -> int:
    """The exit status of what ended with an error, or with none."""
    if isinstance(error, LlmillError):
        return error.exit_status
    return 130 if isinstance(error, KeyboardInterrupt) else int(error is not None)


@bystander
def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'NEAREST'?)` for a message about a name that is not known; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


_SPACE = ("no space left on the disk", "Make room and run the same command again: it goes on from what is stored")
_REFUSALS = {  # errno -> (what is wrong, what to do)
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: ("the disk quota is used up", _SPACE[1]),
    errno.EROFS: ("it is on a read-only file system", "Set LLMILL_HOME to a folder that you may write"),
    errno.EACCES: ("permission denied", "Change its permissions, or set LLMILL_HOME to a folder that you may write"),
    errno.EPERM: ("not permitted", "Change its permissions, or set LLMILL_HOME to a folder that you may write"),
    errno.ENOTDIR: ("there is a file where a folder must be", "Move the file away"),
    errno.EISDIR: ("there is a folder where a file must be", "Move the folder away"),
    errno.EIO: ("the disk could not read or write it", "Check the disk, then run the same command again"),
    errno.EMFILE: ("too many open files", "Raise the limit (ulimit -n) and run the same command again"),
}
# What libraries make of the same: safetensors and pyarrow keep the number in the text; sqlite3 and numpy do not.
_NUMBER = re.compile(r"\(os error (\d+)\)|\[errno (\d+)\]", re.IGNORECASE)
_FULL = re.compile(r"database or disk is full|\d+ requested and \d+ written")


@bystander
def refused_number(error: BaseException) -> int | None:
    """The errno of what the operating system refused and the user can fix; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        found = _NUMBER.search(str(error))
        number = int(found[1] or found[2]) if found else errno.ENOSPC if _FULL.search(str(error)) else None
    return number if number in _REFUSALS else None


@bystander
def refusal(error: BaseException, place: Path) -> StoreError | None:
    """What the operating system refused, in words that name the path and the fix; None for any other error.

    `place` is named where the error does not say which file it was about.
    """
    number = refused_number(error)
    if number is None or isinstance(error, LlmillError):
        return None
    what, fix = _REFUSALS[number]
    name = getattr(error, "filename", None)
    return StoreError(f"{os.fsdecode(name) if isinstance(name, str | bytes) else place}: {what}. {fix}.")
