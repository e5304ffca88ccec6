"""What the operating system refuses is told with the path and what to do."""

import errno
import sqlite3
from pathlib import Path

import pytest

from storage.errors import DataError, did_you_mean, refusal, refused_number

PLACE = Path("/home/of/llmill")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left on the disk. Make room and run the same command again"),
        (errno.EDQUOT, "the disk quota is used up. Make room"),
        (errno.EROFS, "it lies on a read-only file system. Set LLMILL_HOME"),
        (errno.EACCES, "permission denied. Mend its permissions"),
        (errno.EPERM, "not permitted. Mend its permissions"),
        (errno.ENOTDIR, "there is a file where a folder must be. Move the file away"),
        (errno.EISDIR, "there is a folder where a file must be. Move the folder away"),
        (errno.EIO, "the disk could not read or write it. Check the disk"),
        (errno.EMFILE, "too many open files. Raise the limit"),
    ],
)
def test_a_refusal_names_the_file_or_else_the_place(number: int, words: str) -> None:
    assert str(refusal(OSError(number, "refused", "/some/file"), PLACE)).startswith(f"/some/file: {words}")
    assert str(refusal(OSError(number, "refused", b"/some/file"), PLACE)).startswith(f"/some/file: {words}")
    assert str(refusal(OSError(number, "refused"), PLACE)).startswith(f"{PLACE}: {words}")


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
def test_libraries_tell_the_number_in_their_words(error: Exception, number: int | None) -> None:
    assert refused_number(error) == number
    assert (refusal(error, PLACE) is None) is (number is None)


def test_what_is_told_already_is_no_refusal() -> None:
    assert refusal(DataError("cannot be read (os error 28)"), PLACE) is None


def test_the_nearest_name_is_proposed() -> None:
    assert did_you_mean("filtre", ["collect", "filter"]) == " (did you mean 'filter'?)"
    assert did_you_mean("filtre", ["collect", "release"]) == "" == did_you_mean("x", [])
