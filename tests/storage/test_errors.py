"""What the operating system refuses is reported with the path and what to do."""

import errno
import sqlite3
from pathlib import Path

import pytest

from storage.errors import (
    ConfigError,
    DataError,
    LlmillError,
    StoreError,
    UnavailableError,
    did_you_mean,
    refusal,
    refused_number,
)

PLACE = Path("/home/of/llmill")


ROOM = "Make room and run the same command again: it goes on from what is stored"
RIGHTS = "Change its permissions, or set LLMILL_HOME to a folder that you may write"


@pytest.mark.parametrize(
    ("number", "what", "fix"),
    [
        (errno.ENOSPC, "no space left on the disk", ROOM),
        (errno.EDQUOT, "the disk quota is used up", ROOM),
        (errno.EROFS, "it is on a read-only file system", "Set LLMILL_HOME to a folder that you may write"),
        (errno.EACCES, "permission denied", RIGHTS),
        (errno.EPERM, "not permitted", RIGHTS),
        (errno.ENOTDIR, "there is a file where a folder must be", "Move the file away"),
        (errno.EISDIR, "there is a folder where a file must be", "Move the folder away"),
        (errno.EIO, "the disk could not read or write it", "Check the disk, then run the same command again"),
        (errno.EMFILE, "too many open files", "Raise the limit (ulimit -n) and run the same command again"),
    ],
)
def test_a_refusal_names_the_file_or_else_the_place(number: int, what: str, fix: str) -> None:
    for filename in ("/some/file", b"/some/file"):
        assert str(refusal(OSError(number, "refused", filename), PLACE)) == f"/some/file: {what}. {fix}."
    assert str(refusal(OSError(number, "refused"), PLACE)) == f"{PLACE}: {what}. {fix}."


@pytest.mark.parametrize("kind", [LlmillError, ConfigError, DataError, StoreError, UnavailableError])
def test_what_the_user_can_fix_ends_with_status_2_and_is_reported(kind: type[LlmillError]) -> None:
    assert (kind("wrong").exit_status, kind("wrong").reported) == (2, False)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (RuntimeError("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (RuntimeError("error writing file. Detail: [errno 28] No space left"), errno.ENOSPC),
        (RuntimeError("Detail: [Errno 13] Permission denied"), errno.EACCES),
        (sqlite3.OperationalError("database or disk is full"), errno.ENOSPC),
        (OSError("12 requested and 0 written"), errno.ENOSPC),
        (RuntimeError("(os error 2)"), None),
        (FileNotFoundError(errno.ENOENT, "gone"), None),
        (RuntimeError("no number"), None),
    ],
)
def test_libraries_give_the_number_in_their_words(error: Exception, number: int | None) -> None:
    assert refused_number(error) == number
    assert (refusal(error, PLACE) is None) is (number is None)


def test_what_is_reported_already_is_not_a_refusal() -> None:
    assert refusal(DataError("cannot be read (os error 28)"), PLACE) is None


def test_the_nearest_name_is_proposed() -> None:
    assert did_you_mean("filtre", ["collect", "filter"]) == " (did you mean 'filter'?)"
    assert did_you_mean("filtre", ["collect", "release"]) == "" == did_you_mean("x", [])
