"""Which files one job reads: consecutive files in order of name, cut where the files themselves say so.

A job is the unit of caching: it is repeated when one of its files changes. One job a file would be too many for
thousands of small texts, and "every 64 files" would shift every later job when one file is added. So, as in
content-defined chunking (rsync, restic), a slice ends after a file whose own name's hash falls below a threshold that
grows with its size: about `SLICE_BYTES` or `files_per_slice` files a slice, every file of `SLICE_BYTES` and more is
one by itself, and a file that is added, changed or removed changes its own slice and at most joins or splits two
neighbours, which are small files too.
"""

from collections.abc import Sequence

from storage.canonical import fraction_of
from storage.store.artifacts import StoredFile

SLICE_BYTES = 4 * 2**20


def cut_slices(files: Sequence[StoredFile], files_per_slice: float) -> list[list[StoredFile]]:
    """Cut a sequence of files into slices of consecutive files."""
    slices: list[list[StoredFile]] = [[]]
    for file in files:
        if file.bytes >= SLICE_BYTES:
            slices.append([])
        slices[-1].append(file)
        draw = fraction_of("slice", file.name)
        if draw < file.bytes / SLICE_BYTES + 1 / files_per_slice:
            slices.append([])
    return [part for part in slices if part]
