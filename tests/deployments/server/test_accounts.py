"""Keys, their limits and the ledger, over HTTP and from the command line."""

import csv
import io
import itertools
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as some
from model_server import NAME, Address, model_server
from postgres import postgres
from starlette.routing import Route
from support import Command, wait_until

from deployments.server import accounts as accounts_module
from deployments.server.app import HEALTH
from deployments.server.pages import OPEN
from deployments.server.pricing import Plan, read_pricing
from storage.errors import ConfigError, StoreError
from storage.service import Entry, Limits, Service, open_service

NONE = {"cached_tokens": 0}  # of an embedding
NOON = "2026-11-30T12:00:00.000000+00:00"
BODY: Any = {"prompt": "The river", "max_tokens": 5}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(f"sqlite:///{tmp_path / 'service.db'}")


@pytest.fixture
def server(folder: Path, service: Service) -> Iterator[Address]:
    with model_server(folder, service) as address:
        yield address


def ask(server: Address, key: str, body: Any = BODY, path: str = "/v1/completions", **headers: str) -> Any:
    return server.ask("POST", path, body, {"authorization": f"Bearer {key}", **headers})


def test_every_route_but_health_asks_for_a_key_once_there_is_one(server: Address, service: Service) -> None:
    assert server.ask("POST", "/v1/completions", BODY)[0] == 200, "no key was given out: open"
    secret = service.add_key("ada", "standard", Limits())
    wait_until(lambda: server.ask("POST", "/v1/completions", BODY)[0] == 401, "keys are asked for")
    routes = [(route.path, sorted(route.methods or ())) for route in server.app.routes if isinstance(route, Route)]
    assert len(routes) == len(server.app.routes), "there are no routes of another kind"
    assert {"/v1/models", "/v1/chat/completions", "/tokenize", "/metrics", "/openapi.json"} <= {
        path for path, _ in routes
    }
    for path, methods in routes:
        for method in methods:
            address = path.replace("{name:path}", NAME)
            without = server.ask(method, address)
            wrong = server.ask(method, address, headers={"authorization": f"Bearer {secret[:-1]}"})
            right = server.ask(method, address, headers={"authorization": f"Bearer {secret}"})
            if path in (*HEALTH, *OPEN):
                assert without[0] == 200
            else:
                assert without[0] == wrong[0] == 401 and right[0] != 401, path
    assert server.ask("GET", "/nothing")[0] == 401, "what is not there is not told either"
    assert server.client(secret).models.list().data[0].id == NAME
    with pytest.raises(openai.AuthenticationError) as refused:
        server.client("sk-wrong").models.list()
    assert refused.value.code == "invalid_api_key"
    for header in ("", "Basic eDp5", "Bearer", f"bearer  {secret} x", "Bearer \xff\xfe"):
        assert server.ask("GET", "/v1/models", headers={"authorization": header})[0] == 401


def test_a_revoked_key_is_refused_within_a_second_and_the_server_stays_closed(
    server: Address, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts_module, "LOOK_SECONDS", 0.05)
    secret = service.add_key("ada", "standard", Limits())
    wait_until(lambda: ask(server, "wrong")[0] == 401, "keys are asked for")
    assert ask(server, secret)[0] == 200
    assert service.revoke("ada") and not service.revoke("ada")
    wait_until(lambda: ask(server, secret)[0] == 401, "it is refused")
    assert server.ask("GET", "/v1/models")[0] == 401, "the last key that goes opens nothing"
    with pytest.raises(ConfigError, match="there is no such key"):
        service.revoke("eve")


def test_the_ledger_is_what_the_replies_say_to_the_token(server: Address, service: Service) -> None:
    secret = service.add_key("ada", "standard", Limits())
    wait_until(lambda: ask(server, "wrong")[0] == 401, "keys are asked for")
    said = {"prompt": 0, "cached": 0, "made": 0}

    def add(usage: Any) -> None:
        said["prompt"] += usage["prompt_tokens"]
        said["cached"] += usage["prompt_tokens_details"]["cached_tokens"]
        said["made"] += usage["completion_tokens"]

    for body in (BODY, BODY, BODY | {"n": 3, "seed": 1}, BODY | {"prompt": ["a b", "c d e"], "n": 2, "seed": 1}):
        add(ask(server, secret, body)[2]["usage"])
    streamed = ask(server, secret, BODY | {"stream": True, "stream_options": {"include_usage": True}})[2]
    add(json.loads(streamed.strip().split("\n\n")[-2].removeprefix("data: "))["usage"])
    ask(server, secret, BODY | {"max_tokens": -1})
    (row,) = service.usage("", "key")
    assert (row["key"], row["requests"]) == ("ada", 5), "what was refused is no request"
    assert {name: row[f"{name}_tokens"] for name in said} == said
    plan = read_pricing().plan("standard")
    assert 0 < row["price"] - float(plan.price(*said.values())) + 5 <= 10, "each request is rounded up once"
    (model,) = service.usage("", "model")
    assert model["model"] == "d" * 64 and model["price"] == row["price"]
    assert service.usage("2999-01-01", "day") == []


def test_a_request_that_is_sent_again_is_paid_once(server: Address, service: Service) -> None:
    secret = service.add_key("ada", "standard", Limits())
    wait_until(lambda: ask(server, "wrong")[0] == 401, "keys are asked for")
    for _ in range(3):
        assert ask(server, secret, BODY, **{"idempotency-key": "order-1"})[0] == 200
    other = service.add_key("eve", "standard", Limits())
    ask(server, other, BODY, **{"idempotency-key": "order-1"})
    assert [row["requests"] for row in service.usage("", "key")] == [1, 1], "by the key that sends it"
    for number in range(4):
        ask(server, other, BODY | {"seed": number}, **{"idempotency-key": "order-1"})
    assert [row["requests"] for row in service.usage("", "key")] == [1, 5], "another body is another request"
    for _ in range(3):
        ask(server, secret, BODY, **{"idempotency-key": "order-1"})
    assert [row["requests"] for row in service.usage("", "key")] == [4, 5], (
        "nobody asks six times for want of an answer"
    )


def test_requests_side_by_side_pass_no_limit(server: Address, service: Service) -> None:
    day = service.add_key("day", "standard", Limits(tokens_per_day=100))
    wait_until(lambda: ask(server, "wrong")[0] == 401, "keys are asked for")
    body = BODY | {"max_tokens": 80, "temperature": 2}
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda seed: ask(server, day, body | {"seed": seed})[0], range(12)))
    assert set(statuses) == {200, 429}
    assert service.left("day", 100) > -100, "one at most may pass it"


def test_one_key_cannot_take_all_rows(server: Address, service: Service) -> None:
    many = service.add_key("many", "standard", Limits())
    wait_until(lambda: ask(server, "wrong")[0] == 401, "keys are asked for")
    body = BODY | {"n": 16, "max_tokens": 200, "temperature": 2}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda seed: ask(server, many, body | {"seed": seed}), range(4)))
    assert {status for status, _, _ in answers} == {200, 429}
    assert ask(server, many, body)[0] == 200, "when they have ended it may ask again"


def test_an_answer_is_not_lost_by_a_ledger_that_is_away(
    server: Address, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, away = service.write, [True]

    def write(entry: Entry) -> None:
        if away[0]:
            raise StoreError("the database is away")
        plain(entry)

    monkeypatch.setattr(service, "write", write)
    assert server.ask("POST", "/v1/completions", BODY)[0] == 200
    away[0] = False
    assert server.ask("POST", "/v1/completions", BODY)[0] == 200
    assert service.usage("", "key")[0]["requests"] == 2, "it is written with the next"


def test_limits_of_a_key(server: Address, service: Service) -> None:
    few = service.add_key("few", "standard", Limits(requests_per_minute=2))
    wait_until(lambda: ask(server, "wrong")[0] == 401, "keys are asked for")
    assert [ask(server, few)[0] for _ in range(2)] == [200, 200]
    status, headers, answer = ask(server, few)
    assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded") and 1 <= int(headers["retry-after"]) <= 31
    day = service.add_key("day", "standard", Limits(tokens_per_day=8))
    statuses = [ask(server, day)[0] for _ in range(4)]
    assert statuses[0] == 200 and statuses[-1] == 429
    status, headers, answer = ask(server, day)
    assert answer["error"]["code"] == "tokens_per_day" and "0.333 an hour" in answer["error"]["message"]
    assert 0 < int(headers["retry-after"]) <= 3 * 86_401, "a token comes back in three hours"
    poor = service.add_key("poor", "standard", Limits(budget=1))
    assert [ask(server, poor)[0] for _ in range(2)] == [200, 429]
    assert ask(server, poor)[2]["error"]["code"] == "insufficient_quota"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'service.db'}"
        return
    with postgres() as database:
        database.create("service")
        yield database.url("service")


def test_tokens_of_a_day_are_a_bucket_that_servers_share(url: str) -> None:
    most = 100 * 86_400  # 100 tokens a second come back
    one, other = Service(url), Service(url)
    one.add_key("ada", "standard", Limits(tokens_per_day=most))
    one.add_key("free", "standard", Limits())
    numbers = itertools.count()

    def use(service: Service, tokens: int, key: str = "ada", once: str | None = None) -> None:
        service.write(Entry(str(next(numbers)), key, "d" * 64, NOON, tokens - 1, 0, 1, 0, "stop", once))

    assert other.left("ada", most) == most, "it begins full"
    use(one, most - 1000, once="order-1")
    use(other, most - 1000, once="order-1")  # sent again
    started, first = time.monotonic(), other.left("ada", most)
    assert 1000 <= first < 1500
    time.sleep(0.3)
    more = one.left("ada", most) - first
    assert 25 <= more <= 100 * (time.monotonic() - started) + 5
    use(one, 3000)
    assert -2000 <= other.left("ada", most) < -1000, "what passes the limit is owed"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: use((one, other)[number % 2], 50), range(40)))
    assert -4000 <= Service(url).left("ada", most) < -2500, "nothing that is used side by side is lost"
    use(one, 10**9, "free")
    assert one.left("free", most) == most, "no limit, no bucket"


def test_a_bucket_holds_the_tokens_of_a_day_at_most(service: Service) -> None:
    service.add_key("ada", "standard", Limits(tokens_per_day=10**13))
    service.write(Entry("r", "ada", "d" * 64, NOON, 9, 0, 1, 0, "stop"))
    wait_until(lambda: service.left("ada", 10**13) == 10**13, "ten tokens are back in a moment, and no more")


def test_a_clock_that_is_behind_fills_no_bucket(service: Service, tmp_path: Path) -> None:
    """Else two servers whose clocks differ would fill it a second time with each request."""
    service.add_key("ada", "standard", Limits(tokens_per_day=864_000))  # ten a second
    service.write(Entry("a", "ada", "d" * 64, NOON, 500_000, 0, 0, 0, "stop"))
    with sqlite3.connect(tmp_path / "service.db") as database:  # as if the other server's clock were an hour ahead
        database.execute("UPDATE buckets SET filled = filled + 3600")
        ahead = database.execute("SELECT filled FROM buckets").fetchone()
    service.write(Entry("b", "ada", "d" * 64, NOON, 100, 0, 0, 0, "stop"))
    assert service.left("ada", 864_000) == 864_000 - 500_100
    with sqlite3.connect(tmp_path / "service.db") as database:
        assert database.execute("SELECT filled FROM buckets").fetchone() == ahead


def test_a_tenant_does_not_learn_what_another_has_asked(server: Address, service: Service) -> None:
    ada, eve = (service.add_key(name, "standard", Limits()) for name in ("ada", "eve"))
    wait_until(lambda: ask(server, "wrong")[0] == 401, "keys are asked for")
    body = BODY | {"prompt": "A secret of the narrow castle by the river"}

    def cached(key: str) -> int:
        return int(ask(server, key, body)[2]["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert [cached(ada) > 0, cached(ada) > 0, cached(eve) > 0, cached(eve) > 0] == [False, True, False, True]


@given(some.integers(0, 10**9), some.integers(0, 10**9), some.integers(0, 10**9))
def test_a_price_is_rounded_up_once(prompt: int, cached: int, made: int) -> None:
    plan = Plan.model_validate({"prompt": "0.1", "cached": "0.02", "made": "0.4"})
    exact = (10 * (prompt - min(cached, prompt)) + 2 * min(cached, prompt) + 40 * made) / 100
    assert 0 <= plan.price(prompt, min(cached, prompt), made) - exact <= 1


def test_the_csv_of_usage_is_the_sum_of_the_replies_to_the_token(
    home: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole and streamed answers, several, cut and refused ones, embeddings, in several scripts; one sent thrice, one
    that its client left."""
    service, command = open_service(home), Command(capsys, monkeypatch)
    ada, eve = (service.add_key(name, "standard", Limits()) for name in ("ada", "eve"))
    said: dict[str, list[Any]] = {"ada": [], "eve": []}
    with model_server(folder, service) as server:
        wait_until(lambda: ask(server, "wrong")[0] == 401, "keys are asked for")
        chat = {"messages": [{"role": "user", "content": "แม่น้ำอยู่ที่ไหน"}], "max_tokens": 7}
        for name, key in (("ada", ada), ("eve", eve)):
            for body in (BODY, BODY, BODY | {"prompt": ["河", "नदी कहाँ है"], "n": 2, "seed": 1}, BODY | {"stop": "e"}):
                said[name].append(ask(server, key, body)[2]["usage"])
            said[name].append(ask(server, key, chat, "/v1/chat/completions")[2]["usage"])
            said[name].append(ask(server, key, {"input": "河 river"}, "/v1/embeddings")[2]["usage"])
        once = [ask(server, ada, BODY | {"seed": 9}, **{"idempotency-key": "order-1"})[2]["usage"] for _ in range(3)]
        said["ada"].append(once[0])
        ask(server, eve, BODY | {"max_tokens": 0})
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        text = ask(server, eve, BODY | stream)[2]
        said["eve"].append(json.loads(text.strip().split("\n\n")[-2].removeprefix("data: "))["usage"])
        with server.client(ada).completions.create(
            model=NAME, prompt="The castle", max_tokens=900, temperature=2, seed=1, stream=True
        ) as left:
            seen = [next(left) for _ in range(3)]
        wait_until(lambda: service.usage("", "key")[0]["requests"] == 8, "the one that was left is in the ledger")

    def rows(*arguments: str) -> dict[str, dict[str, str]]:
        text = command("usage", "--csv", *arguments, home=home)[1]
        return {next(iter(row.values())): row for row in csv.DictReader(io.StringIO(text))}

    plan, found = read_pricing().plan("standard"), rows()
    for name in said:
        kinds = [
            (
                one["prompt_tokens"],
                one.get("prompt_tokens_details", NONE)["cached_tokens"],
                one.get("completion_tokens", 0),
            )
            for one in said[name]
        ]
        if name == "ada":  # what was made of the one that was left, which is more than was read of it
            (row,) = (one for one in ledger(service) if one.outcome == "cancelled")
            assert row.prompt_tokens > 0 and len(seen) - 1 <= row.made_tokens < 900
            kinds.append((row.prompt_tokens, row.cached_tokens, row.made_tokens))
        sums = [sum(numbers) for numbers in zip(*kinds, strict=True)]
        assert [int(found[name][f"{kind}_tokens"]) for kind in ("prompt", "cached", "made")] == sums
        assert found[name]["requests"] == str(len(kinds)) and found[name]["currency"] == "EUR"
        price = sum(plan.price(*one) for one in kinds)
        assert Decimal(found[name]["price"]) == Decimal(price) / 1_000_000 and price > 0
    (day,) = rows("--by", "day")
    after = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    assert rows("--since", day, "--until", after) == found and rows("--until", day) == {}
    assert f"nothing was asked since {after}" in command("usage", "--since", after, home=home)[1]
    status, _, err = command("usage", "--since", after, "--until", day, home=home)
    assert status == 2 and f"--until {day}" in err


def ledger(service: Service) -> list[Any]:
    found: list[Any] = service._database.do(lambda connection: connection.execute(service._ledger.select()).all())
    return found


def test_keys_and_usage_on_the_command_line(home: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flows.cli.main import main

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    assert "no keys" in command("keys", "list")[1]
    assert "nothing was asked yet" in command("usage")[1]
    status, secret, err = command("keys", "add", "ada", "--requests-per-minute", "90", "--budget", "12.50")
    assert status == 0 and re.fullmatch(r"sk-llmill-[\w-]{43}\n", secret) and "shown once" in err
    assert secret.strip() not in (home / "service" / "service.db").read_bytes().decode("latin-1")
    _, listed, _ = command("keys", "list")
    assert secret[:16] in listed and secret.strip() not in listed
    assert "90 requests/min, budget 12.5" in listed and "valid" in listed
    with model_server(folder, open_service(home)) as server:
        assert ask(server, secret.strip())[0] == 200
    _, table, _ = command("usage")
    assert table.splitlines()[0].split() == ["key", "requests", "prompt", "cached", "made", "EUR"]
    assert table.splitlines()[1].split()[:2] == ["ada", "1"]
    (row,) = csv.DictReader(io.StringIO(command("usage", "--csv", "--by", "day")[1]))
    assert row["requests"] == "1" and row["currency"] == "EUR" and float(row["price"]) > 0
    assert json.loads(command("usage", "--json", "--since", row["day"])[1])["rows"][0]["key"] == "ada"
    assert command("keys", "revoke", "ada")[1] == "ada: revoked\n"
    for arguments, words in (
        (("keys", "add", "ada"), "there is such a key already, perhaps a revoked one"),
        (("keys", "add", "eve", "--plan", "fre"), "did you mean 'free'"),
        (("keys", "add", "eve", "--budget", "much"), "--budget much"),
        (("keys", "add", ""), "NAME ''"),
        (("keys", "revoke", "eve"), "there is no such key"),
        (("usage", "--since", "yesterday"), "--since yesterday"),
        (("usage", "--csv", "--json"), "choose one"),
    ):
        status, _, err = command(*arguments)
        assert status == 2 and words in err.replace("\n", " "), err
