"""Addresses: what is shown of them holds no secret; loopback is reached without a proxy, the rest as the user says."""

import http.server
import os
import threading
import urllib.request

import httpx
import pytest

from storage.addresses import check_form, keep_loopback_direct, no_answer, redacted
from storage.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ada:secret@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("postgresql+asyncpg://ada:s3/cr@et@db/prefect", "postgresql+asyncpg://db/prefect"),
        ("https://token@host/x", "https://host/x"),
        ("postgresql://db/x?user=ada&password=secret&sslmode=require", None),
        ("'s3://b/k?X-Amz-Signature=secret': gone, see https://h/y?Token=secret)", None),
        ("hf://datasets/org/name@main/data", "hf://datasets/org/name@main/data"),
        ("ada@example.org, http://h:1/a b@c", "ada@example.org, http://h:1/a b@c"),
    ],
)
def test_no_secret_is_shown_and_all_else_is(text: str, shown: str | None) -> None:
    if shown is not None:
        assert redacted(text) == shown
    assert "secret" not in redacted(text)
    for word in ("sslmode=require", "gone", "https://h/y"):
        assert (word in redacted(text)) == (word in text)


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any proxy setting, put back as it was after the test."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")  # so that what is set in the test is undone
        monkeypatch.delenv(name)
    return monkeypatch


def through_proxy(url: str) -> bool:
    """Whether httpx, as Prefect uses it, sends a request to a proxy; urllib, as requests asks it, must agree."""
    client = httpx.Client()
    transport = client._transport_for_url(httpx.URL(url))
    host = httpx.URL(url).host
    assert bool(urllib.request.proxy_bypass(host)) == (transport is client._transport), url
    return transport is not client._transport


def test_this_machine_is_reached_directly_and_others_through_the_proxy(no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("http_proxy", "http://proxy.example:3128")
    assert through_proxy("http://127.0.0.1:4200/api")
    keep_loopback_direct()
    for host in ("127.0.0.1:4200", "localhost:5000", "[::1]:5000"):
        assert not through_proxy(f"http://{host}/api"), host
    assert through_proxy("http://hub.example/x")
    before = dict(os.environ)
    keep_loopback_direct()
    assert dict(os.environ) == before  # a child, which does so again, finds the same


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_what_the_user_exempts_stays_exempt(no_proxy: pytest.MonkeyPatch, name: str) -> None:
    no_proxy.setenv("HTTP_PROXY", "http://proxy.example:3128")
    no_proxy.setenv(name, ".inside.example, localhost")
    keep_loopback_direct()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == ".inside.example,localhost,127.0.0.1,::1"
    assert not through_proxy("http://store.inside.example/x") and through_proxy("http://hub.example/x")


def test_all_exempt_or_no_proxy_at_all_is_left_alone(no_proxy: pytest.MonkeyPatch) -> None:
    keep_loopback_direct()
    assert "no_proxy" not in os.environ and "NO_PROXY" not in os.environ
    no_proxy.setenv("ALL_PROXY", "socks5://proxy.example:1080")
    no_proxy.setenv("no_proxy", "*")
    keep_loopback_direct()
    assert os.environ["no_proxy"] == "*" and not through_proxy("http://hub.example/x")


@pytest.mark.parametrize(
    ("address", "schemes", "sound"),
    [
        ("http://127.0.0.1:4200/api", ("http", "https"), True),
        ("sqlite:///file", (), True),
        ("ftp://host/", ("http", "https"), False),
        ("http://", ("http", "https"), False),
        ("http://host:0/", (), False),
        ("http://host:port/", (), False),
        ("http://[::1/", (), False),
    ],
)
def test_an_address_that_is_none_is_refused_with_an_example(
    address: str, schemes: tuple[str, ...], sound: bool
) -> None:
    if sound:
        check_form("SETTING", address, schemes)
        return
    example = "4200/api" if schemes else "5000"
    with pytest.raises(
        ConfigError, match=rf"SETTING=.*this is not an address.*such as http://127\.0\.0\.1:{example}, or unset"
    ):
        check_form("SETTING", address, schemes)


def test_whoever_answers_or_refuses_is_there_and_nobody_is_named_without_credentials() -> None:
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        assert no_answer(f"http://ada:secret@127.0.0.1:{port}/") is None
        assert no_answer(f"postgresql+asyncpg://ada:secret@127.0.0.1:{port}/name") is None, "it listens"
        server.shutdown()
    for scheme in ("http", "postgresql", "mysql+driver"):
        said = no_answer(f"{scheme}://ada:secret@127.0.0.1:{port}/name")
        assert said is not None and said.startswith(f"nobody answers at {scheme}://127.0.0.1:{port}/name (")
        assert "refused" in said
    assert no_answer("sqlite:///file") is None and no_answer("postgresql:///name") is None
