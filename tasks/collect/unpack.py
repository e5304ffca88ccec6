"""Packed files as blocks of bytes: .gz, .zst, .bz2, .xz, with what is whole before a break and a limit on growth.

The standard readers either hide a cut file (zstandard's stream reader ends as if all were there) or raise and lose
what their buffer held (gzip). Here each block that could be unpacked is yielded before `BrokenStream` is raised.
"""

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from storage.source_hashes import unreadable

BLOCK_BYTES = 64 * 1024
# A packed file may grow to this multiple of its size, and to FREE_BYTES in any case: text packs 3 to 20 times, a
# decompression bomb 1,000 times and more.
MAX_GROWTH = 250
FREE_BYTES = 64 * 2**20
# Zstandard has no limit on the output of one call: a block of 4 bytes can become 128 KiB, so this much input
# unpacks to 32 MiB at most.
ZSTANDARD_INPUT_BYTES = 1024
MAX_WINDOW_BYTES = 512 * 2**20  # of Zstandard's memory of what came before: zstd --long=29
FRAME_HEADER_BYTES = 18  # Zstandard's, at most
_ZSTANDARD_FRAME = b"\x28\xb5\x2f\xfd"
_DICTIONARY_FRAME = b"\x5d\x2a\x4d\x18"  # skippable; first in a .warc.zst whose records are packed with a dictionary
MAX_DICTIONARY_BYTES = 64 * 2**20
XZ_MEMORY_BYTES = 256 * 2**20
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # in no text but UTF-16 and UTF-32


class BrokenStream(Exception):
    """A file that is cut, damaged, a bomb or not what its name says: which, the message says.

    What came before it is whole.
    """


_BEGINNINGS = {  # of files that are neither text nor records, and cannot be taken for such
    "gz": rb"\x1f\x8b",
    "zst": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
    "bz2": rb"BZh[1-9]1AY&SY",
    "xz": rb"\xfd7zXZ\x00",
    "zip": rb"PK\x03\x04",
    "tar": rb".{257}ustar[\x00 ]",
    "pdf": rb"%PDF-",
    "parquet": rb"PAR1\x15",
}
_MAGIC = {  # what a whole one begins with; bzip2 says its level
    "gz": (b"\x1f\x8b",),
    "zst": (_ZSTANDARD_FRAME, _DICTIONARY_FRAME),
    "bz2": tuple(b"BZh%d1AY&SY" % level for level in range(1, 10)),
    "xz": (b"\xfd7zXZ\0",),
}


def looks_like(beginning: bytes) -> str:
    """The kind of packed or binary file that begins so, as its usual ending; empty for anything else."""
    kinds = (kind for kind, pattern in _BEGINNINGS.items() if re.match(pattern, beginning, re.DOTALL))
    return next(kinds, "")


def is_packed(path: Path, packing: str, contents: str = "") -> bool:
    """Whether a file is packed as its name says; false for plain text, or the kind `contents`, with such a name.

    Programs that download unpack on the way and keep the name.
    """
    with _opened(path) as file:
        start = _read(file, BLOCK_BYTES)
    kind = looks_like(start.lstrip(b"\0"))
    if kind == packing or any(magic.startswith(start) for magic in _MAGIC[packing]):  # cut in its first bytes
        return True
    return kind != contents if kind else CONTROL.search(start) is not None


def read_blocks(
    path: Path, packing: str, contents: str = "", max_window_bytes: int = MAX_WINDOW_BYTES
) -> Iterator[bytes]:
    """The contents of a file, unpacked, in blocks; raises BrokenStream after the last whole one.

    Contents that are packed themselves, or binary except for the kind `contents`, break at once. DataError where the
    operating system does not let us read the file. Memory: a block and, of .zst, its window.
    """
    with _opened(path) as file:
        limit = FREE_BYTES + MAX_GROWTH * path.stat().st_size
        total = 0
        blocks = _unpack(file, packing, max_window_bytes) if packing else iter(lambda: _read(file, BLOCK_BYTES), b"")
        while True:
            try:
                block = next(blocks, b"")
            except BrokenStream as broken:
                raise BrokenStream(f"{broken}; {total:,} bytes could be unpacked") from broken
            if not block:
                return
            kind = "" if total else looks_like(block)
            if kind != contents and kind:
                raise BrokenStream(f"what the file holds looks like .{kind}: unpack or convert it")
            total += len(block)
            if packing and total > limit:
                raise BrokenStream(f"the .{packing} file unpacks to more than {MAX_GROWTH} times its size")
            yield block


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error


def _read(file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise unreadable(Path(file.name), error) from error


class _Gzip:
    """zlib's decompressor with the interface of bz2's."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._full = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        block = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self._full = len(block) == max_length
        return block

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._full

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


class _Zstandard:
    """zstandard's decompressor of one frame with the interface of bz2's."""

    needs_input = True

    def __init__(self, max_window_bytes: int, dictionary: bytes) -> None:
        import zstandard

        known = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
        self._inner = zstandard.ZstdDecompressor(known, max_window_size=max_window_bytes).decompressobj()
        self._max_window_bytes = max_window_bytes
        self._start: bytes | None = b""  # of the frame, until its header is whole

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self._check_window(data)
        return self._inner.decompress(data)

    def _check_window(self, data: bytes) -> None:
        """Name the window that is too large: Zstandard's own words are that there is too little memory."""
        if self._start is None:
            return
        self._start += data[: FRAME_HEADER_BYTES - len(self._start)]
        if len(self._start) < FRAME_HEADER_BYTES or looks_like(self._start) != "zst":
            return
        start, self._start = self._start, None
        if start.startswith(_ZSTANDARD_FRAME):
            import zstandard

            window = zstandard.get_frame_parameters(start).window_size
            if window > self._max_window_bytes:
                raise BrokenStream(
                    f"it was packed with a window of {window // 2**20:,} MiB (zstd --long), which takes as much memory "
                    f"to read, and collect.max_window_bytes allows {self._max_window_bytes // 2**20:,} MiB: "
                    f"set collect.max_window_bytes={window}, or pack it again "
                    "(zstd -dc --long=31 OLD.zst | zstd -o NEW.zst)"
                )

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "gz": _Gzip,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES),
}


def _decompressor(packing: str, max_window_bytes: int, dictionary: bytes) -> Any:
    return _Zstandard(max_window_bytes, dictionary) if packing == "zst" else _DECOMPRESSORS[packing]()


def _read_dictionary(file: BinaryIO) -> bytes:
    """The dictionary at the beginning of a .warc.zst (IIPC, "Use of Zstandard compression with WARC"), which may be
    packed itself; empty where there is none, and the file as it was."""
    import zstandard

    head = _read(file, 8)
    if not head.startswith(_DICTIONARY_FRAME):
        file.seek(0)
        return b""
    size = int.from_bytes(head[4:], "little")
    data = _read(file, min(size, MAX_DICTIONARY_BYTES + 1))
    if size > MAX_DICTIONARY_BYTES:
        raise BrokenStream(f"its dictionary is longer than {MAX_DICTIONARY_BYTES // 2**20} MiB")
    if len(head) < 8 or len(data) < size:
        raise BrokenStream("the .zst stream ends early, within its dictionary: the file was cut")
    if not data.startswith(_ZSTANDARD_FRAME):
        return data
    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_DICTIONARY_BYTES)
    except zstandard.ZstdError as error:
        raise BrokenStream(f"its dictionary is damaged ({error})") from error


def _unpack(file: BinaryIO, packing: str, max_window_bytes: int) -> Iterator[bytes]:
    """The streams of a file one after the other, in blocks; padding with zeros between and after them is allowed."""
    import zstandard

    input_bytes = ZSTANDARD_INPUT_BYTES if packing == "zst" else BLOCK_BYTES
    dictionary = _read_dictionary(file) if packing == "zst" else b""
    stream = _decompressor(packing, max_window_bytes, dictionary)
    started = False  # some of the present stream has been read
    looks_packed: bool | None = None
    while data := _read(file, input_bytes):
        while True:
            if not started:
                data = data.lstrip(b"\0")
                if not data:
                    break
                looks_packed = looks_packed or looks_like(data) == packing
            try:
                block = stream.decompress(data, BLOCK_BYTES)
            except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, ValueError) as error:
                what = f"the .{packing} stream is damaged" if looks_packed else f"this is not a .{packing} file"
                raise BrokenStream(f"{what} ({error})") from error
            started = True
            if block:
                yield block
            if stream.eof:
                data, started = stream.unused_data, False
                stream = _decompressor(packing, max_window_bytes, dictionary)
            elif stream.needs_input:
                break
            else:
                data = b""
    if started:
        raise BrokenStream(f"the .{packing} stream ends early: the file was cut")
