"""Many clients for minutes, through a new champion and a kill -9: nothing wrong, nothing stuck, nothing lost."""

import http.client
import json
import os
import signal
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from load_clients import Answers, Client, Seen
from load_server import LoadServer
from model_server import Address, model_server
from open_models import write_qwen
from safetensors.torch import load_file, save_file
from sqlalchemy import create_engine, text
from support import wait_until

from deployments.server.served import Place

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("LLMILL_LOAD_SECONDS", "300"))
CLIENTS, TENANTS, PROMPTS = 64, 8, 24
WARM_SECONDS = 200.0  # a shorter run ends before memory has settled
GROWTH_MIB = 24.0  # what memory may grow by after the first part of a process's life
CLEAR = 3e-4  # by which the likeliest token of each step must lead: less hangs on the last digits of sums


def make_model(folder: Path, change: float) -> Path:
    """A model of random weights, which `change` tells from others."""
    write_qwen(folder, context_length=1024)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] += change
    save_file(tensors, folder / "model.safetensors")
    return folder


def answers_alone(server: Address, prompts: list[str]) -> dict[str, str]:
    """What a model says to each prompt when nobody else asks, where it does not waver."""
    said = {}
    for prompt in prompts:
        body = {"prompt": prompt, "max_tokens": 40, "temperature": 0, "logprobs": 2}
        choice = server.post("/v1/completions", body)[1]["choices"][0]
        leads = [sorted(one.values()) for one in choice["logprobs"]["top_logprobs"]]
        if all(len(lead) == 2 and lead[1] - lead[0] > CLEAR for lead in leads):
            said[prompt] = choice["text"]
    return said


def expected(places: list[Place]) -> Answers:
    """(start of the digest, prompt) -> the answer, for prompts to which no model wavers."""
    prompts = [f"The {word} {number}" for number in range(PROMPTS) for word in ("river", "castle")]
    prompts += [f"{'A long way of a narrow road to the castle. ' * 8}{number}" for number in range(PROMPTS // 4)]
    alone = {}
    for place in places:
        with model_server(place.folder) as server:
            alone[place.digest[:16]] = answers_alone(server, prompts)
    common = set.intersection(*(set(said) for said in alone.values()))
    assert len(common) >= PROMPTS // 2
    return {(digest, prompt): said[prompt] for digest, said in alone.items() for prompt in common}


class Memory(threading.Thread):
    """Notes every second how much memory the server has."""

    def __init__(self, server: LoadServer, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._server, self._over = server, over
        self.found: dict[int, list[float]] = {}

    def run(self) -> None:
        while not self._over.wait(1.0):
            process = self._server.process
            if process is not None and (memory := self._server.memory()) is not None:
                self.found.setdefault(process.pid, []).append(memory)


def ledger(server: LoadServer) -> dict[str, Any]:
    """Request -> its row."""
    engine = create_engine(f"sqlite:///{server.folder / 'service.db'}")
    with engine.connect() as connection:
        rows = {row.request: row for row in connection.execute(text("select * from ledger"))}
    engine.dispose()
    return rows


def check_ledger(rows: dict[str, Any], seen: Seen) -> None:
    for request, usage in seen.taken.items():
        row = rows[request]
        assert (row.prompt_tokens, row.cached_tokens, row.made_tokens) == usage, request
        assert row.outcome == "done"
    for request, least in seen.left.items():
        if request in rows:  # or the server was killed in the middle
            assert least <= rows[request].made_tokens <= 40
    others = [row for request, row in rows.items() if request not in seen.taken and request not in seen.left]
    assert {row.outcome for row in others} <= {"cancelled", "done"}, "clients that left before they knew its name"
    gone = seen.kinds["hangs up"] + seen.kinds["reads nothing"] + sum(seen.away.values())
    assert len(others) <= gone + seen.kinds["goes away"]


def settled(memory: list[float]) -> tuple[float, float]:
    """Memory of a process once it is warm, and at its end."""
    warm = len(memory) // 3
    return statistics.median(memory[warm : warm + 5]), statistics.median(memory[-5:])


def test_minutes_of_load_with_a_new_champion_and_a_kill(tmp_path: Path) -> None:
    places = [
        Place(make_model(tmp_path / name, change), name, digest * 64)
        for name, change, digest in (("river", 0.0, "d"), ("lake", 0.05, "e"))
    ]
    answers = expected(places)
    server, seen, over, up = LoadServer(tmp_path), Seen(), threading.Event(), threading.Event()
    keys = server.keys(TENANTS)
    server.promote(places[0])
    server.start()
    up.set()
    memory = Memory(server, over)
    clients = [
        Client(number, server.port, keys[number % TENANTS], answers, seen, over, up.is_set) for number in range(CLIENTS)
    ]
    for thread in (memory, *clients):
        thread.start()
    try:
        started = time.monotonic()
        time.sleep(SECONDS * 0.35)
        server.promote(places[1])
        time.sleep(SECONDS * 0.25)
        up.clear()
        server.stop(signal.SIGKILL)
        server.start()
        up.set()
        time.sleep(max(0.0, started + SECONDS - time.monotonic()))
    finally:
        over.set()
        for thread in (memory, *clients):
            thread.join()
    assert seen.wrong == []
    wait_until(lambda: server.metrics(keys[0])["llmill_running"] == 0, "no slot is stuck")
    metrics = server.metrics(keys[0])
    assert metrics["llmill_waiting"] == 0
    assert server.stop(signal.SIGTERM) == 0
    assert set(seen.digests) == {place.digest[:16] for place in places}
    rows = ledger(server)
    check_ledger(rows, seen)
    report(seen, rows, list(memory.found.values()))
    assert b"Traceback" not in (tmp_path / "server.log").read_bytes()
    assert len(memory.found) == 2
    if SECONDS >= WARM_SECONDS:
        for warm, end in map(settled, memory.found.values()):
            assert end - warm < GROWTH_MIB


def test_a_page_of_somebody_else_s_whose_name_leads_here_is_not_answered(tmp_path: Path) -> None:
    server = LoadServer(tmp_path)
    server.promote(Place(make_model(tmp_path / "river", 0.0), "river", "d" * 64))
    server.start()
    try:
        for host, status in (("evil.example", 400), ("127.0.0.1", 200), ("localhost:8000", 200)):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request("GET", "/v1/models", headers={"host": host})
            assert connection.getresponse().status == status
            connection.close()
    finally:
        assert server.stop(signal.SIGTERM) == 0


def report(seen: Seen, rows: dict[str, Any], memory: list[list[float]]) -> None:
    """The figures, for benchmarks/README.md."""
    cuts = statistics.quantiles(seen.first, n=100)
    figures = {
        "seconds": SECONDS,
        "requests": sum(seen.kinds.values()),
        "by kind": dict(seen.kinds),
        "while the server was away": sum(seen.away.values()),
        "replies by model": dict(seen.digests),
        "rows of the ledger": len(rows),
        "tokens of prompts": sum(row.prompt_tokens for row in rows.values()),
        "tokens made": sum(row.made_tokens for row in rows.values()),
        "first token, seconds": {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3)},
        "memory of each process, MiB": [str([round(one) for one in found[::10]]) for found in memory],
    }
    print(json.dumps(figures, indent=1))
