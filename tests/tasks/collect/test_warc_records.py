"""The frames of WARC files: what is whole is read, and what is damaged costs itself."""

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from web_archives import packed, record

from tasks.collect.records import BadRecord
from tasks.collect.warc_records import Frame, read_frames

RECORDS = [record(f"block {number} ".encode() * 40, f"https://a.example/{number}") for number in range(4)]
WRONG = "its Content-Length is wrong: no record begins where it ends"


def frames(path: Path, packing: str = "", limit: int = 10**6) -> list[Frame | BadRecord]:
    return list(read_frames(path, packing, frozenset(("response",)), limit, 2**27))


def whole(found: list[Frame | BadRecord]) -> str:
    """The numbers in the addresses of the records that could be read."""
    return "".join(frame.headers["warc-target-uri"][-1] for frame in found if isinstance(frame, Frame))


def lied(length: int | str) -> bytes:
    return b"".join([RECORDS[0], record(b"block 1 " * 40, "https://a.example/1", length=length), *RECORDS[2:]])


PLAIN = b"".join(RECORDS)
DAMAGE: dict[str, tuple[bytes, str, str]] = {
    "nothing": (PLAIN, "0123", ""),
    "cut in a block": (PLAIN[:-100], "012", "the file ends within a record: it was cut"),
    "cut in a header": (PLAIN[: 3 * len(RECORDS[0]) + 40], "012", "ends within the header of a record: it was cut"),
    "cut in the first word of a header": (PLAIN[: 3 * len(RECORDS[0]) + 3], "012", "within the header of a record"),
    "cut behind a record": (PLAIN[: 2 * len(RECORDS[0])], "01", ""),
    "a length that is too short": (lied(100), "023", WRONG),
    "a length that is too long": (lied(500), "023", WRONG),
    "a length beyond the file": (lied(10**9), "0", "the file ends within a record: it was cut"),
    "a negative length": (lied(-1), "023", "without Content-Length, or with a wrong one"),
    "a length that is no number": (lied("many"), "023", "without Content-Length, or with a wrong one"),
    "no length": (PLAIN.replace(b"Content-Length: 320", b"X: 320", 1), "123", "without Content-Length"),
    "another version": (PLAIN.replace(b"WARC/1.0", b"WARC/0.18"), "0123", ""),
    "line feeds alone": (PLAIN.replace(b"\r\n", b"\n"), "0123", ""),
    "no blank lines between records": (b"".join(one.rstrip() + b"\n" for one in RECORDS), "0123", ""),
    "blank lines before the first": (b"\r\n\n" + PLAIN, "0123", ""),
    "garbage between records": (RECORDS[0] + b"garbage " * 9 + b"\n" + b"".join(RECORDS[1:]), "123", WRONG),
    "garbage alone": (b"hello world\n" * 9, "", "no header of a record where one must begin"),
    "a header without end": (RECORDS[0] + b"WARC/1.0\r\n" + b"X: y\r\n" * 20_000 + PLAIN, "00123", "no header of a"),
    "a text that has records in it": (record(PLAIN, "https://a.example/9") + RECORDS[1], "91", ""),
    "a header that goes on": (PLAIN.replace(b"WARC-Date:", b"X-Y: a\r\n b\r\nWARC-Date:"), "0123", ""),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_costs_the_records_it_is_in(tmp_path: Path, kind: str) -> None:
    data, readable, reason = DAMAGE[kind]
    (tmp_path / "a.warc").write_bytes(data)
    found = frames(tmp_path / "a.warc")
    assert whole(found) == readable
    reasons = [bad.reason for bad in found if isinstance(bad, BadRecord)]
    assert len(reasons) == bool(reason)
    assert all(reason in said for said in reasons)
    lost = [bad.rest_lost for bad in found if isinstance(bad, BadRecord)]
    assert any(lost) == kind.startswith(("cut in", "a length beyond")), (
        "how much is lost is unknown where the file was cut, and only there"
    )


def member(number: int, change: Callable[[bytes], bytes]) -> bytes:
    members = [gzip.compress(one) for one in RECORDS]
    members[number] = change(members[number])
    return b"".join(members)


PACKED_DAMAGE: dict[str, tuple[bytes, str, str]] = {
    "nothing": (packed(RECORDS), "0123", ""),
    "zeros between members": (b"\0\0\0".join(gzip.compress(one) for one in RECORDS), "0123", ""),
    "one member for all": (gzip.compress(PLAIN), "0123", ""),
    "not packed": (PLAIN, "0123", ""),
    "cut in a member": (packed(RECORDS)[:-30], "012", "the file was cut"),
    "cut in a checksum": (packed(RECORDS)[:-3], "012", "the file was cut"),
    "a damaged member": (member(1, lambda data: data[:60] + b"\0\0\0\0" + data[64:]), "023", "stream is damaged"),
    "a wrong checksum": (member(1, lambda data: data[:-8] + b"\0\0\0\0" + data[-4:]), "023", "stream is damaged"),
    "a wrong length of a member": (member(2, lambda data: data[:-4] + b"\1\1\0\0"), "013", "stream is damaged"),
    "a damaged head of a member": (member(1, lambda data: b"\0\xff" + data[2:]), "023", "stream is damaged"),
    "a member that was cut": (member(1, lambda data: data[:-40]), "023", "stream is damaged"),
    "the last member damaged": (member(3, lambda data: data[:60] + b"\0\0\0\0" + data[64:]), "012", "damaged"),
    "garbage behind": (packed(RECORDS) + b"garbage", "0123", "stream is damaged"),
    "a bomb": (packed([*RECORDS, record(b"\0" * 150_000_000)]), "0123", "more than 250 times its size"),
}


@pytest.mark.parametrize("kind", PACKED_DAMAGE)
def test_a_damaged_member_costs_its_record_and_reading_goes_on(tmp_path: Path, kind: str) -> None:
    data, readable, reason = PACKED_DAMAGE[kind]
    (tmp_path / "a.warc.gz").write_bytes(data)
    found = frames(tmp_path / "a.warc.gz", "gz")
    assert whole(found) == readable
    reasons = [bad.reason for bad in found if isinstance(bad, BadRecord)]
    assert len(reasons) == bool(reason)
    assert all(reason in said for said in reasons)


def test_whatever_byte_is_flipped_one_record_is_lost_at_most(tmp_path: Path) -> None:
    chance = random.Random(5)
    sizes = [chance.choice((10, 300, 70_000, 200_000)) for _ in range(12)]
    records = [record(chance.randbytes(size), f"https://a.example/{n}") for n, size in enumerate(sizes)]
    blocks = {one.partition(b"\r\n\r\n")[2][:-4] for one in records}
    whole_file = packed(records)
    for _ in range(60):
        data = bytearray(whole_file)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (tmp_path / "a.warc.gz").write_bytes(data)
        found = frames(tmp_path / "a.warc.gz", "gz")
        read = [frame for frame in found if isinstance(frame, Frame)]
        assert len(read) >= len(records) - 1
        assert all(frame.block in blocks for frame in read), "no wrong byte is taken for a page's"


def test_a_block_that_is_too_long_is_passed_over_but_for_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(record(b"x" * 300_000) + RECORDS[1])
    long, short = frames(tmp_path / "a.warc", limit=1000)
    assert isinstance(long, Frame)
    assert isinstance(short, Frame)
    assert (long.block, long.length, long.is_whole) == (b"x" * 1000, 300_000, False)
    assert short.is_whole
