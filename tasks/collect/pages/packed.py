"""ZIP files that hold one document (EPUB, DOCX), opened with limits on what they unpack to."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

MAX_UNPACKED_BYTES = 512 * 2**20
MAX_MEMBERS = 20_000
MAX_GROWTH = 250


class Unreadable(Exception):
    """What is wrong with a file, for its reason."""


@contextmanager
def opened(body: bytes) -> Iterator[zipfile.ZipFile]:
    """The archive; raises Unreadable where it is cut, protected or unpacks to too much."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if len(members) > MAX_MEMBERS or size > min(MAX_UNPACKED_BYTES, 2**24 + MAX_GROWTH * len(body)):
                raise Unreadable(f"it unpacks to {len(members):,} files of {size:,} bytes, which is too much")
            if any(member.flag_bits & 1 for member in members):
                raise Unreadable("no text: protected by a password")
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise Unreadable(f"damaged or cut ({str(error)[:100]})") from error
