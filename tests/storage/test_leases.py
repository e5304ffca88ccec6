"""Leases: one holder at a time; who is silent for its lease is replaced; nobody who was slow comes back."""

import threading
import time
from pathlib import Path

import pytest

from storage.leases import home_identity, leased
from storage.remote import Remote

SECONDS = 1.0


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(f"file://{tmp_path}/remote")


class Dead:
    """A holder that was killed: it holds the lease and renews it no more."""

    def __init__(self, remote: Remote, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("storage.leases._Lease.keep", lambda lease: None)
            patched.setattr("storage.leases._Lease.release", lambda lease: None)
            with leased(remote, "key", home, SECONDS):
                self.died = time.monotonic()


def test_holders_take_turns_and_the_one_that_waits_is_told_for_whom(remote: Remote) -> None:
    inside, turns, told = [], [], []

    def work(home: str) -> None:
        with leased(remote, "key", home, SECONDS, told.append):
            inside.append(home)
            assert inside == [home], "two hold one lease"
            time.sleep(1.3 * SECONDS)  # longer than the lease: it is renewed
            turns.append(inside.pop())

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(turns) == ["a", "b", "c"]
    assert len(told) >= 2 and all("process" in holder for holder in told)


def test_a_dead_holder_frees_within_its_lease_and_not_before(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Dead(remote, "another home", monkeypatch)
    with leased(remote, "key", "this home", SECONDS):
        waited = time.monotonic() - dead.died
    assert 0.8 * SECONDS < waited < 1.5 * SECONDS


def test_what_a_home_has_left_behind_itself_does_not_hold_it_up(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = Dead(remote, "this home", monkeypatch)
    with leased(remote, "key", "this home", SECONDS):
        assert time.monotonic() - dead.died < 0.3 * SECONDS


def test_a_holder_that_was_taken_for_dead_neither_renews_nor_frees_the_lease_of_the_next(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("storage.leases._Lease.keep", lambda lease: None)  # stopped for longer than its lease
        slow = leased(remote, "key", "slow", SECONDS)
        slow.__enter__()
    with leased(remote, "key", "next", SECONDS):
        before = remote.read_all([f"leases/key/{name}" for name in remote.names("leases/key")])
        assert len(before) == 1, "the dead one's lease is taken away"
        slow.__exit__(None, None, None)  # it goes on, and is done
        ((name, data),) = remote.read_all([f"leases/key/{name}" for name in remote.names("leases/key")]).items()
        assert name in before and b'"home":"next"' in data and b'"free":false' in data


def test_other_keys_and_free_leases_hold_nobody_up(remote: Remote) -> None:
    started = time.monotonic()
    for _ in range(3):
        with leased(remote, "one", "a", 60), leased(remote, "two", "b", 60), leased(remote, "three", "a", 60):
            pass
    assert time.monotonic() - started < 5
    assert len(remote.names("leases/one")) == 1, "only the newest generation stays"


def test_a_lease_that_is_no_json_runs_out_like_any_other(remote: Remote) -> None:
    remote.write("leases/key/000000007.json", b"{half")
    started = time.monotonic()
    with leased(remote, "key", "a", SECONDS):
        assert 0.8 * SECONDS < time.monotonic() - started < 1.5 * SECONDS
        assert set(remote.names("leases/key")) == {"000000008.json"}


def test_a_copy_of_a_home_is_another_home(tmp_path: Path) -> None:
    for name in ("home", "copy"):
        (tmp_path / name).mkdir()
    assert home_identity(tmp_path / "home") == home_identity(tmp_path / "home")
    assert home_identity(tmp_path / "home") != home_identity(tmp_path / "copy")
