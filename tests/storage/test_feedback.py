"""What users say is kept whole, in order, for ever; with consent only, in SQLite and in PostgreSQL."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from postgres import postgres
from support import ROOT, wait_until

from storage import feedback as module
from storage.documents import Message
from storage.feedback import Feedback, FeedbackStore, Vote, open_feedback, utc_now

MESSAGES = (Message("system", "Be short."), Message("user", "แม่น้ำอยู่ที่ไหน 河在哪里 \x00 \u2028 \U0001f30a"))
SAID = Feedback(
    request="chatcmpl-1",
    choice=2,
    model="d" * 64,
    time="2026-12-01T00:00:00.000000+00:00",
    user="u" * 64,
    form="chat",
    messages=MESSAGES,
    answer="Dort.\n\x00",
    prompt_ids=(1, 2, 3),
    answer_ids=(4, 5),
    sampling={"temperature": 0.5, "top_p": 1.0, "seed": None},
    rating="down",
    correction="Hier.",
    consent=True,
)
VOTED = Vote(
    request_a="chatcmpl-1",
    request_b="chatcmpl-2",
    time="2026-12-01T00:00:00.000000+00:00",
    user="u" * 64,
    form="text",
    messages=MESSAGES[1:],
    model_a="d" * 64,
    answer_a="one",
    model_b="e" * 64,
    answer_b="",
    choice="both_bad",
    consent=True,
)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FeedbackStore]:
    if request.param == "sqlite":
        yield open_feedback(home)
        return
    with postgres() as database:
        database.create("service")
        monkeypatch.setenv("LLMILL_SERVICE_DATABASE", database.url("service"))
        yield open_feedback(home)


def test_records_come_back_as_they_were_written(store: FeedbackStore) -> None:
    empty = store.digest()
    assert (store.count(), list(store.feedback()), list(store.votes())) == (0, [], [])
    first = store.write(SAID)
    second = store.write(replace(SAID, rating=None, time="2026-12-02T00:00:00.000000+00:00"))
    vote = store.write(VOTED)
    read = list(store.feedback())
    assert read == [
        replace(SAID, id=first),
        replace(SAID, id=second, rating=None, time="2026-12-02T00:00:00.000000+00:00"),
    ]
    assert first < second and store.count() == 3
    assert list(store.votes()) == [replace(VOTED, id=vote)]
    assert [one.id for one in store.feedback("2026-12-02")] == [second] and list(store.votes("2026-12-02")) == []
    assert store.digest() != empty and store.digest() == store.digest()


def test_without_consent_nothing_is_written(store: FeedbackStore) -> None:
    for record in (replace(SAID, consent=False), replace(VOTED, consent=False)):
        with pytest.raises(ValueError, match="without consent"):
            store.write(record)
    assert store.count() == 0


def test_many_records_are_read_in_pages(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 7)
    store = open_feedback(home)
    ids = [store.write(replace(SAID, request=str(number))) for number in range(21)]
    records = store.feedback()
    assert next(records).id == ids[0]
    ids.append(store.write(replace(SAID, request="while it is read")))
    assert [one.id for one in records] == ids[1:]


def test_the_digest_is_that_of_what_was_said(home: Path, tmp_path: Path) -> None:
    stores = [FeedbackStore(f"sqlite:///{tmp_path / name}") for name in ("one", "two")]
    for store in stores:
        store.write(SAID)
        store.write(VOTED)
    assert stores[0].digest() == stores[1].digest(), "of the contents, not of the place"
    stores[1].write(replace(SAID, correction="There."))
    stores[0].write(replace(SAID, correction="Nowhere."))
    assert stores[0].digest() != stores[1].digest()


def test_users_are_told_apart_and_not_named(home: Path, tmp_path: Path) -> None:
    store, other = open_feedback(home), FeedbackStore(f"sqlite:///{tmp_path / 'other'}")
    names = {store.user_of(*who) for who in (("ada",), ("ada", "1"), ("eve", "1"), ("", "ada"))}
    assert len(names) == 4 and all(len(name) == 64 for name in names)
    assert store.user_of("ada") == open_feedback(home).user_of("ada"), "the same tomorrow"
    assert store.user_of("ada") != other.user_of("ada"), "and another in another database"


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from storage.feedback import open_feedback
from test_feedback import SAID
store = open_feedback(Path(sys.argv[1]))
for number in range(1_000_000):
    store.write(replace(SAID, request=str(number), answer=str(number) * 20_000))
    print(number, flush=True)
"""


def test_a_kill_in_the_middle_of_writes_leaves_whole_records(home: Path) -> None:
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "storage")))
    command = [sys.executable, "-c", WRITER, str(home)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        said = [int(one.stdout.readline()) for _ in range(20)]
        os.kill(one.pid, signal.SIGKILL)
        said += [int(line) for line in one.stdout.read().split()]
    wait_until(lambda: one.poll() is not None, "it is gone")
    store = open_feedback(home)
    kept = list(store.feedback())
    assert [int(record.request) for record in kept] == list(range(len(kept)))
    assert all(record.answer == record.request * 20_000 for record in kept)
    assert len(said) <= len(kept) <= len(said) + 1, "what was said to be written is there"
    assert store.write(replace(SAID, time=utc_now())) > kept[-1].id
