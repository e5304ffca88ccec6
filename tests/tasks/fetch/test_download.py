"""One file from an address: resumed, checked, limited, and never from a private network unasked."""

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_files import Hub, commit_id, serve_hub

from storage.errors import ConfigError, DataError
from tasks.fetch.download import Wanted, download
from tasks.fetch.public_only import opener

DATA = os.urandom(5000)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[Hub]:
    with serve_hub(Hub("org/set", {commit_id(1): {"a.bin": DATA}}, {})) as hub:
        yield hub


def get(server: Hub, folder: Path, **known: object) -> str:
    address = f"{server.url}/lfs/{commit_id(1)}/a.bin"
    wanted = Wanted(**{"url": address, "allow_private": True, **known})  # type: ignore[arg-type]
    return download(wanted, folder / "partial" / "a", folder / "a.bin", wait=lambda seconds: None)


def ranges(server: Hub) -> list[str]:
    return [one.partition(" ")[2] for one in server.asked]


def test_a_file_of_which_nothing_is_known_comes_whole(server: Hub, tmp_path: Path) -> None:
    server.cut_after = [1000, 2000]
    assert get(server, tmp_path) == DIGEST
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert ranges(server) == ["", "bytes=1000-", "bytes=3000-"]


def test_a_file_that_became_another_between_two_parts_is_begun_anew(server: Hub, tmp_path: Path) -> None:
    server.cut_after = [1000]
    server.statuses = [200, *[404] * 9]
    with pytest.raises(DataError):
        get(server, tmp_path)
    server.statuses, server.served = [], {"a.bin": DATA[::-1]}
    assert get(server, tmp_path) == hashlib.sha256(DATA[::-1]).hexdigest()


def test_a_file_that_became_shorter_than_its_part_is_begun_anew(server: Hub, tmp_path: Path) -> None:
    partial = tmp_path / "partial" / "a"
    partial.parent.mkdir()
    partial.write_bytes(b"x" * 9000)
    short = DATA[:10]
    server.served = {"a.bin": short}
    partial.with_name("a.version").write_text(f'"\\"{hashlib.sha256(short).hexdigest()}\\""')
    assert get(server, tmp_path) == hashlib.sha256(short).hexdigest()


def test_a_part_without_a_version_is_not_trusted(server: Hub, tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "a").write_bytes(b"x" * 100)
    assert get(server, tmp_path) == DIGEST
    assert ranges(server) == [""]


def test_a_whole_part_with_the_digest_costs_no_request(server: Hub, tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "a").write_bytes(DATA)
    assert get(server, tmp_path, size=len(DATA), sha256=DIGEST) == DIGEST
    assert server.asked == []


def test_a_damaged_part_is_fetched_anew_once(server: Hub, tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "a").write_bytes(b"x" * len(DATA))
    assert get(server, tmp_path, size=len(DATA), sha256=DIGEST) == DIGEST
    with pytest.raises(DataError, match="changed, or damaged"):
        get(server, tmp_path, sha256="0" * 64)


def test_a_file_longer_than_allowed_is_refused(server: Hub, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than 100 bytes"):
        get(server, tmp_path, max_bytes=100)


def test_addresses_of_this_machine_are_refused_however_they_are_written(server: Hub, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"):
        with pytest.raises(ConfigError, match="set allow_private"):
            get(server, tmp_path, url=f"http://{host}:{port}/x", allow_private=False)
    assert server.asked == []


def test_names_that_lead_to_private_addresses_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(ConfigError, match=r"intranet\.example is an address of this machine or a private network"):
        opener(allow_private=False).open("http://intranet.example/a", timeout=2)


def test_ftp_is_not_fetched() -> None:
    with pytest.raises(ConfigError, match="only http and https"):
        opener(allow_private=True).open("ftp://127.0.0.1/a", timeout=2)


def test_a_host_that_is_not_there_is_named(tmp_path: Path, server: Hub) -> None:
    with pytest.raises((DataError, OSError)):
        get(server, tmp_path, url="http://127.0.0.1:9/a")
