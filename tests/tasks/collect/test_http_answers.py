"""HTTP answers in WARC records: bodies in every encoding, broken ones, and none that grows beyond its limit."""

import gzip
import zlib

import pytest
import zstandard
from web_archives import answer

from tasks.collect.http_answers import BadAnswer, content_type, parse_answer

BODY = b"<html><body>" + " ".join(str(number**3) for number in range(400)).encode()


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (100, body[:100], len(body) - 100, body[100:])


PACKED = gzip.compress(BODY)
ANSWERS: dict[str, bytes] = {
    "plain": answer(BODY),
    "chunked": answer(chunked(BODY), headers=["Transfer-Encoding: chunked"]),
    "gzip": answer(PACKED, headers=["Content-Encoding: gzip"]),
    "x-gzip": answer(PACKED, headers=["content-encoding: X-GZIP"]),
    "deflate": answer(zlib.compress(BODY), headers=["Content-Encoding: deflate"]),
    "deflate without a head": answer(zlib.compress(BODY)[2:-4], headers=["Content-Encoding: deflate"]),
    "zstd": answer(zstandard.compress(BODY), headers=["Content-Encoding: zstd"]),
    "chunked gzip": answer(chunked(PACKED), headers=["Transfer-Encoding: chunked", "Content-Encoding: gzip"]),
    "called chunked and is not": answer(BODY, headers=["Transfer-Encoding: chunked"]),
    "called gzip and is not": answer(BODY, headers=["Content-Encoding: gzip"]),
    "called br and is not": answer(BODY, headers=["Content-Encoding: br"]),
    "an unknown encoding": answer(BODY, headers=["Content-Encoding: foo"]),
    "line feeds alone": answer(BODY, newline="\n"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_bodies_are_decoded_as_the_header_says_and_where_it_lies_as_they_are(kind: str) -> None:
    found = parse_answer(ANSWERS[kind], 10**6)
    assert (found.status, found.media_type, found.charset, found.body) == (200, "text/html", "utf-8", BODY)


BAD: dict[str, tuple[bytes, str]] = {
    "no answer": (b"Hello, world.\r\n\r\n", "no HTTP answer"),
    "nothing": (b"", "no HTTP answer"),
    "a header without end": (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "no HTTP answer"),
    "gzip that is cut": (answer(PACKED[:-12], headers=["Content-Encoding: gzip"]), "not encoded as the header says"),
    "damaged gzip": (answer(PACKED[:20] + b"\0\0\0" + PACKED[23:], headers=["Content-Encoding: gzip"]), "not encoded"),
    "a gzip bomb": (answer(gzip.compress(b"x" * 10**7), headers=["Content-Encoding: gzip"]), "more than 1000000 bytes"),
    "a zstd bomb": (answer(zstandard.compress(b"x" * 10**7), headers=["Content-Encoding: zstd"]), "more than 1000000"),
    "a long body": (answer(b"x" * 10**6 + b"y"), "the record has more than 1000000 bytes"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_answer_that_cannot_be_read_says_why(kind: str) -> None:
    block, message = BAD[kind]
    with pytest.raises(BadAnswer, match=message):
        parse_answer(block, 10**6)


def test_a_page_that_the_crawler_cut_is_read_as_far_as_it_goes() -> None:
    cut = answer(PACKED[:-12], headers=["Content-Encoding: gzip"])
    assert BODY.startswith(parse_answer(cut, 10**6, whole=False).body)


def test_the_body_of_another_status_is_not_decoded() -> None:
    found = parse_answer(answer(b"\0\1", "404 Not Found", headers=["Content-Encoding: gzip"]), 10**6)
    assert (found.status, found.body) == (404, b"")


@pytest.mark.parametrize(
    ("value", "expected"),
    (
        ("text/html", ("text/html", "")),
        ('Text/HTML ; Charset="ISO-8859-1"', ("text/html", "ISO-8859-1")),
        ("text/plain;charset=utf-8;x=y", ("text/plain", "utf-8")),
        ("", ("", "")),
    ),
)
def test_content_types(value: str, expected: tuple[str, str]) -> None:
    assert content_type(value) == expected
