"""Packed files as blocks of bytes: .gz, .zst, .bz2, .xz, with what is whole before a break and a limit on growth.

The standard readers either hide a cut file (zstandard's stream reader ends as if all were there) or raise and lose
what their buffer held (gzip). Here each block that could be unpacked is yielded before `BrokenStream` is raised.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

BLOCK_BYTES = 64 * 1024
# A packed file may grow to this multiple of its size, and to FREE_BYTES in any case: text packs 3 to 20 times, a
# decompression bomb 1,000 times and more.
MAX_GROWTH = 250
FREE_BYTES = 64 * 2**20
# Zstandard has no limit on the output of one call: a block of 4 bytes can stand for 128 KiB, so this much input
# unpacks to 32 MiB at most.
ZSTANDARD_INPUT_BYTES = 1024
WINDOW_BYTES = 128 * 2**20  # as `zstd` itself accepts without --long=31
XZ_MEMORY_BYTES = 256 * 2**20


class BrokenStream(Exception):
    """A packed file that is cut, damaged or a bomb; the message says which. What came before it is whole."""


def read_blocks(path: Path, packing: str) -> Iterator[bytes]:
    """The contents of a file, unpacked, in blocks; raises BrokenStream after the last whole one."""
    with path.open("rb") as file:
        if not packing:
            while block := file.read(BLOCK_BYTES):
                yield block
            return
        limit = FREE_BYTES + MAX_GROWTH * path.stat().st_size
        total = 0
        for block in _unpack(file, packing):
            total += len(block)
            if total > limit:
                raise BrokenStream(f"the .{packing} file unpacks to more than {MAX_GROWTH} times its size")
            yield block


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

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompressobj()

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(data)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "gz": _Gzip,
    "zst": _Zstandard,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES),
}


def _unpack(file: BinaryIO, packing: str) -> Iterator[bytes]:
    """The streams of a file one after the other, in blocks; padding with zeros between and after them is allowed."""
    import zstandard

    input_bytes = ZSTANDARD_INPUT_BYTES if packing == "zst" else BLOCK_BYTES
    stream = _DECOMPRESSORS[packing]()
    started = False  # some of the present stream has been read
    while data := file.read(input_bytes):
        while True:
            if not started:
                data = data.lstrip(b"\0")
                if not data:
                    break
            try:
                block = stream.decompress(data, BLOCK_BYTES)
            except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, ValueError) as error:
                raise BrokenStream(f"the .{packing} stream is damaged ({error})") from error
            started = True
            if block:
                yield block
            if stream.eof:
                data, stream, started = stream.unused_data, _DECOMPRESSORS[packing](), False
            elif stream.needs_input:
                break
            else:
                data = b""
    if started:
        raise BrokenStream(f"the .{packing} stream ends early: the file was cut")
