"""The records for a server that goes away and comes back: none is lost, none overtakes another, nobody waits."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Clock

from flows.mlflow import outbox
from flows.mlflow.outbox import MAX_WAITING, TRIES, Outbox


class Server:
    """A list of what has arrived, while it is up."""

    def __init__(self) -> None:
        self.up, self.asked = True, 0
        self.arrived: list[int] = []

    def record(self, number: int) -> Callable[[], int]:
        def arrive() -> int:
            self.asked += 1
            if not self.up:
                raise ConnectionRefusedError("nobody at http://me:secret@host/")
            self.arrived.append(number)
            return number

        return arrive


def test_what_is_sent_while_the_server_is_away_arrives_in_order_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(outbox, "time", clock)
    server, records = Server(), Outbox()
    assert records.send(server.record(0)) == 0
    server.up = False
    assert [records.send(server.record(number)) for number in (1, 2, 3)] == [None] * 3
    assert server.asked == 2, "in the pause nobody is asked"
    assert len(records) == 3 and len(records.failures) == 3 and "secret" not in records.failures[0]
    server.up = True
    clock.sleep(outbox.PAUSE_SECONDS)
    assert records.send(server.record(4)) == 4
    assert server.arrived == [0, 1, 2, 3, 4] and records.failures == []


def test_what_the_server_refuses_is_dropped_and_holds_nobody_up() -> None:
    server, records = Server(), Outbox()

    def wrong() -> None:
        raise ValueError("no such parameter")

    assert records.send(wrong) is None
    assert records.send(server.record(1)) == 1
    assert records.failures == ["ValueError: no such parameter"]


def test_a_record_that_brings_the_server_into_trouble_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "PAUSE_SECONDS", 0.0)
    import httpx

    request = httpx.Request("GET", "http://here/")
    asked = []

    def trouble() -> None:
        asked.append(1)
        raise httpx.HTTPStatusError("500", request=request, response=httpx.Response(500, request=request))

    server, records = Server(), Outbox()
    for number in range(5):
        records.send(trouble if number == 0 else server.record(number))
    assert len(asked) == TRIES and server.arrived == [1, 2, 3, 4]


def test_troubles_are_counted_for_each_record_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two troubles for the first, which arrives then, and one for the second: neither is given up."""
    monkeypatch.setattr(outbox, "PAUSE_SECONDS", 0.0)
    import httpx

    request = httpx.Request("GET", "http://here/")
    troubles = {0: TRIES - 1, 1: TRIES - 1}
    arrived = []

    def arrive(number: int) -> None:
        if troubles[number]:
            troubles[number] -= 1
            raise httpx.HTTPStatusError("500", request=request, response=httpx.Response(500, request=request))
        arrived.append(number)

    records = Outbox()
    for number in (0, 1):
        records.send(partial(arrive, number))
        while len(records):
            records.deliver(now=True)
    assert arrived == [0, 1] and records.failures == []


def test_pauses_grow_to_a_bound_and_start_over_when_somebody_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(outbox, "time", clock)
    server, records = Server(), Outbox()

    def pause() -> float:
        """Seconds in which nobody is asked after the last attempt."""
        asked, begun = server.asked, clock.now
        while server.asked == asked:
            clock.sleep(0.5)
            records.deliver()
        return clock.now - begun

    server.up = False
    records.send(server.record(0))
    assert records.failures == ["ConnectionRefusedError: nobody at http://host/"]
    assert [pause() for _ in range(7)] == [5, 10, 20, 40, 80, 120, 120]
    server.up = True
    assert pause() == 120 and server.arrived == [0]
    server.up = False
    records.send(server.record(1))
    assert pause() == 5


def test_who_was_silent_is_asked_again_at_little_cost_and_answered_by_what_is_known() -> None:
    answers = iter(["nobody at 1", "nobody at 2", None])
    server, records = Server(), Outbox("nobody at 0", lambda: next(answers))
    records.send(server.record(0))
    assert records.failures == ["nobody at 0"]
    for reason in ("nobody at 1", "nobody at 2"):
        records.deliver(now=True)
        assert records.failures == [reason] and server.asked == 0
    records.deliver(now=True)
    assert server.arrived == [0] and records.failures == []


def test_an_outage_without_end_costs_bounded_memory_and_one_call_at_the_end() -> None:
    server, records = Server(), Outbox("nobody answers")
    server.up = False
    for number in range(MAX_WAITING + 5):
        records.send(server.record(number))
    assert (len(records), len(records.failures), server.asked) == (MAX_WAITING, MAX_WAITING + 5, 0)
    records.deliver(now=True)
    assert server.asked == 1


@given(st.lists(st.booleans(), max_size=30))
def test_whenever_the_server_is_up_or_down_everything_arrives_once_and_in_order(ups: list[bool]) -> None:
    server, records = Server(), Outbox()
    for number, up in enumerate(ups):
        server.up = up
        records.send(server.record(number))
        records.deliver(now=True)
    server.up = True
    records.deliver(now=True)
    assert server.arrived == list(range(len(ups))) and records.failures == []
