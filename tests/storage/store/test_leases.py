"""Leases: one holder at a time; who is silent for its lease is replaced; nobody who was slow comes back.

Those that wait for a lease do so by a clock of the test, which moves when they sleep: no busy machine is too slow.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support import PATIENCE_SECONDS, Clock, wait_until

from storage.errors import StoreError
from storage.store.leases import home_identity, leased
from storage.store.remote import Remote

SECONDS = 60.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("storage.store.leases.time", found)
    return found


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(f"file://{tmp_path}/remote")


def die_with(remote: Remote, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that was killed: it holds the lease and renews it no more."""
    with monkeypatch.context() as patched:
        patched.setattr("storage.store.leases._Lease.keep", lambda lease: None)
        patched.setattr("storage.store.leases._Lease.release", lambda lease: None)
        with leased(remote, "key", home, SECONDS):
            pass


def bodies(remote: Remote, key: str = "key") -> dict[str, bytes]:
    """The leases of a key, by generation."""
    return remote.read_all([f"leases/{key}/{name}" for name in remote.names(f"leases/{key}")])


def test_holders_take_turns_and_the_one_that_waits_hears_for_whom(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.store.leases.POLLS_A_LEASE", SECONDS / 0.01)
    inside, turns, heard = [], [], []
    waiting = threading.Event()

    def tell(holder: str) -> None:
        heard.append(holder)
        waiting.set()

    def work(home: str) -> None:
        with leased(remote, "key", home, SECONDS, tell):
            inside.append(home)
            assert waiting.wait(PATIENCE_SECONDS)
            time.sleep(0.1)
            assert inside == [home], "two hold one lease"
            turns.append(inside.pop())

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert sorted(turns) == ["a", "b", "c"]
    assert len(heard) >= 2 and all("process" in holder for holder in heard)


def test_a_holder_that_lives_keeps_its_lease_for_as_long_as_it_works(
    remote: Remote, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits looks twenty times a lease; the holder renews faster than that, for three leases."""
    monkeypatch.setattr("storage.store.leases.BEATS_A_LEASE", SECONDS / 0.01)
    looks = []
    with leased(remote, "key", "holder", SECONDS):
        seen = [bodies(remote)]

        def look() -> None:
            wait_until(lambda: bodies(remote) != seen[-1], "the lease is renewed", every=0.005)
            seen.append(bodies(remote))
            looks.append(clock.now)
            if len(looks) == 60:
                raise InterruptedError

        clock.before_sleep = look
        with pytest.raises(InterruptedError), leased(remote, "key", "waiting", SECONDS):
            pass
    assert looks[-1] - looks[0] > 2.9 * SECONDS


def test_a_dead_holder_frees_within_its_lease_and_not_before(
    remote: Remote, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_with(remote, "another home", monkeypatch)
    died = clock.now
    with leased(remote, "key", "this home", 10 * SECONDS):  # what the holder promised counts
        assert 0.9 * SECONDS <= clock.now - died <= SECONDS


def test_who_waits_hears_whose_it_is_at_once_and_again_each_minute(
    remote: Remote, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("storage.store.leases._Lease.keep", lambda lease: None)
        silent = leased(remote, "key", "another home", 600, holder={"run": "smoke-1"})
        silent.__enter__()
    heard, started = [], clock.now
    with leased(remote, "key", "this home", 600, lambda holder: heard.append((clock.now - started, holder))):
        pass
    assert [when for when, _ in heard] == [60.0 * minute for minute in range(9)]
    assert {who.partition(", since ")[0] for _, who in heard} == {
        f"run smoke-1 (process {os.getpid()} on {socket.gethostname()})"
    }


def test_what_a_home_has_left_behind_itself_does_not_hold_it_up(
    remote: Remote, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_with(remote, "this home", monkeypatch)
    died = clock.now
    with leased(remote, "key", "this home", SECONDS):
        assert clock.now == died


def test_a_holder_that_was_taken_for_dead_neither_renews_nor_frees_the_lease_of_the_next(
    remote: Remote, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("storage.store.leases._Lease.keep", lambda lease: None)  # stopped for longer than its lease
        slow = leased(remote, "key", "slow", SECONDS)
        slow.__enter__()
    with leased(remote, "key", "next", SECONDS):
        before = bodies(remote)
        assert len(before) == 1, "the dead one's lease is taken away"
        slow.__exit__(None, None, None)  # it goes on, and is done
        assert bodies(remote).keys() == before.keys()
        (data,) = bodies(remote).values()
        assert b'"home":"next"' in data and b'"free":false' in data


class Overtaken(Remote):
    """A store on which others do something in the moment between a look and the creation that follows from it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.meanwhile: list[Callable[[], object]] = []

    def create(self, key: str, data: bytes) -> bool:
        if self.meanwhile:
            self.meanwhile.pop()()
        return super().create(key, data)


def test_who_is_overtaken_by_two_turns_of_others_does_not_hold_an_older_lease(tmp_path: Path, clock: Clock) -> None:
    """It found generation 1 free and is slow. Meanwhile 2 comes and goes and 3 is held: 2 can be created again, but
    whoever creates it has lost the race, leaves nothing behind and waits for 3."""
    remote, slow = Remote(f"file://{tmp_path}/remote"), Overtaken(f"file://{tmp_path}/remote")
    with leased(remote, "key", "first", SECONDS):
        pass
    third = leased(remote, "key", "third", SECONDS)

    def meanwhile() -> None:
        with leased(remote, "key", "second", SECONDS):
            pass
        third.__enter__()

    def wait() -> None:
        assert list(bodies(remote)) == ["leases/key/000000003.json"], "what lost the race is taken away"
        third.__exit__(None, None, None)

    slow.meanwhile.append(meanwhile)
    clock.before_sleep = wait
    heard: list[str] = []
    started = clock.now
    with leased(slow, "key", "slow", SECONDS, heard.append):
        assert clock.now > started, "two hold one lease"
        assert len(heard) == 1
        assert list(bodies(remote)) == ["leases/key/000000004.json"]


def test_of_two_that_create_the_same_generation_one_waits(tmp_path: Path, clock: Clock) -> None:
    remote, slow = Remote(f"file://{tmp_path}/remote"), Overtaken(f"file://{tmp_path}/remote")
    first = leased(remote, "key", "fast", SECONDS)
    slow.meanwhile.append(first.__enter__)
    clock.before_sleep = partial(first.__exit__, None, None, None)
    started = clock.now
    with leased(slow, "key", "slow", SECONDS):
        assert clock.now > started, "two hold one lease"


def test_a_store_that_is_gone_for_a_while_costs_the_holder_nothing(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two beats fail, the next comes through; a release that fails leaves a lease that runs out."""
    monkeypatch.setattr("storage.store.leases.BEATS_A_LEASE", SECONDS / 0.01)
    failed = []

    def write(key: str, data: bytes) -> None:
        failed.append(key)
        raise StoreError("gone")

    with leased(remote, "key", "holder", SECONDS):
        with monkeypatch.context() as patched:
            patched.setattr(remote, "write", write)
            wait_until(lambda: len(failed) >= 2, "two beats fail")
        cut_off = bodies(remote)
        wait_until(lambda: bodies(remote) != cut_off, "the lease is renewed")
        monkeypatch.setattr(remote, "write", write)
    assert len(bodies(remote)) == 1


def test_other_keys_and_free_leases_hold_nobody_up(remote: Remote, clock: Clock) -> None:
    started = clock.now
    remote.write("leases/one/.000000001.json.half-written", b"{")
    remote.write("leases/one/stray.json", b"{}")
    for _ in range(3):
        with leased(remote, "one", "a", 60), leased(remote, "two", "b", 60), leased(remote, "three", "a", 60):
            pass
    assert clock.now == started
    assert len(remote.names("leases/one")) == 1 + 2, "only the newest generation stays"


@pytest.mark.parametrize("data", [b"{half", b"[]", b"{}", b'{"seconds":"soon"}', b'{"seconds":null,"free":true}'])
def test_a_lease_that_cannot_be_read_runs_out_like_any_other(remote: Remote, clock: Clock, data: bytes) -> None:
    remote.write("leases/key/000000007.json", data)
    started = clock.now
    heard: list[str] = []
    with leased(remote, "key", "a", SECONDS, heard.append):
        assert 0.9 * SECONDS <= clock.now - started <= SECONDS
        assert set(remote.names("leases/key")) == {"000000008.json"}
    assert not heard, "nobody is named by it"


@pytest.mark.parametrize(("promised", "seconds"), [("1e9", 3600), ("-5", 0)])
def test_no_promise_holds_others_up_for_more_than_an_hour(
    remote: Remote, clock: Clock, promised: str, seconds: float
) -> None:
    remote.write("leases/key/000000001.json", b'{"seconds":' + promised.encode() + b"}")
    started = clock.now
    with leased(remote, "key", "a", SECONDS):
        assert 0.9 * seconds <= clock.now - started <= seconds


def test_a_copy_of_a_home_is_another_home(tmp_path: Path) -> None:
    for name in ("home", "copy"):
        (tmp_path / name).mkdir()
    assert home_identity(tmp_path / "home") == home_identity(tmp_path / "home")
    assert home_identity(tmp_path / "home") != home_identity(tmp_path / "copy")
