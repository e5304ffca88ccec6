"""Thumbs, corrections and votes on the page, in a real browser: nothing before the person agrees."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browser_page, chromium_path
from chat_page import IDLE, opened, say
from model_server import NAME, Address, feedback_store, model_server
from open_models import write_qwen
from safetensors.torch import load_file, save_file

from deployments.server.served import Place
from storage.feedback import FeedbackStore

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium_path() is None, reason="no chromium in PATH")]
SAID = "[...document.querySelectorAll('#log .feedback p')].at(-1)?.innerText"
ASKED = "document.getElementById('consent').open"


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    other = write_qwen(tmp_path_factory.mktemp("other") / "lake", context_length=1024)
    tensors = load_file(other / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] += 0.05
    save_file(tensors, other / "model.safetensors")
    with model_server(folder, beside=Place(other, "lake", "e" * 64)) as address:
        yield address


@pytest.fixture
def store(folder: Path) -> FeedbackStore:
    return feedback_store(folder)


@pytest.fixture
def tab(server: Address) -> Iterator[Page]:
    with browser_page() as page:
        yield opened(page, server)


def test_a_thumb_is_kept_once_the_person_agrees(tab: Page, store: FeedbackStore) -> None:
    before = store.count()
    say(tab, "Where is the river?")
    tab.press("Bad")
    tab.wait_until(ASKED)
    assert "E-mail addresses" in tab.evaluate("document.getElementById('consent').innerText")
    assert tab.evaluate("document.activeElement.closest('dialog') !== null"), "the keyboard is in the question"
    tab.press("Do not keep it")
    tab.wait_until(f"{SAID} === 'Nothing was kept.'")
    assert store.count() == before and tab.evaluate("document.getElementById('kept').hidden")
    tab.press("Bad")
    tab.press("I agree")
    tab.wait_until(f"{SAID} === 'Kept. Thank you.'")
    tab.press("Good")
    pressed = "[...document.querySelectorAll('.feedback button[aria-pressed=true]')]"
    tab.wait_until(f"{pressed}.map(one => one.innerText.trim()).join() === 'Good'")
    assert not tab.evaluate(ASKED), "it is asked once"
    kept = list(store.feedback())[-2:]
    assert [one.rating for one in kept] == ["down", "up"] and store.count() == before + 2
    assert kept[0].messages[-1].content == "Where is the river?" and kept[0].request == kept[1].request
    tab.press("Keep nothing more")
    assert tab.evaluate("document.getElementById('status').innerText") == "From now on nothing is kept."
    tab.press("Bad")
    tab.wait_until(ASKED)
    tab.evaluate("document.getElementById('consent').close()")
    tab.wait_until(f"{SAID} === 'Nothing was kept.'")
    assert store.count() == before + 2


def test_a_correction_says_what_it_should_have_said(tab: Page, store: FeedbackStore) -> None:
    answer = say(tab, "แม่น้ำ")[-1][1]
    seen = "document.querySelector('.feedback textarea').checkVisibility()"
    assert not tab.evaluate(seen), "nobody is asked for a correction unasked"
    tab.press("Correct it")
    assert tab.evaluate("document.activeElement.value") == tab.evaluate(
        "document.querySelector('#log li.assistant p').textContent"
    )
    assert tab.evaluate(seen)
    tab.press("Send correction")
    assert tab.evaluate(SAID) == "Write what it should have said."
    tab.evaluate("document.querySelector('.feedback textarea').value = 'อยู่ที่นี่ <b>ada@gmail.com</b>'")
    tab.press("Send correction")
    tab.press("I agree")
    tab.wait_until(f"{SAID} === 'Kept. Thank you.'")
    record = list(store.feedback())[-1]
    assert record.correction == "อยู่ที่นี่ <b>email@example.com</b>" and record.rating is None
    assert record.answer.strip() == answer.strip() and record.messages[-1].content == "แม่น้ำ"
    assert not tab.evaluate(seen)
    assert not [event for event in tab.events if event["method"] == "Log.entryAdded"], "no complaint"


def test_a_reply_that_is_forgotten_is_said(tab: Page, server: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    say(tab, "Where is the river?")
    monkeypatch.setattr(
        server.server.listener, "_memory", type(server.server.generator._memory)(server.server.settings)
    )
    tab.press("Good")
    tab.press("I agree")
    tab.wait_until(f"{SAID}.startsWith('Not kept: id: no reply')")


def test_two_models_answer_side_by_side_and_are_named_after_the_vote(tab: Page, store: FeedbackStore) -> None:
    votes: list[Any] = []
    shown: set[tuple[str, str]] = set()
    tab.press("Side by side")
    for number in range(8):
        text = f"Where is the river {number}?"
        tab.evaluate(f"document.getElementById('text').value = {text!r}")
        tab.press("Send")
        tab.wait_until(f"{IDLE} && document.querySelectorAll('#log li.beside').length === {number + 1}")
        last = "document.querySelector('#log li:last-child')"
        assert tab.evaluate(f"{last}.querySelectorAll('section').length") == 2
        whole = tab.evaluate("document.getElementById('log').innerText")
        assert number or (NAME not in whole.split("\n") and "lake" not in whole), "names are hidden"
        tab.press("B is better")
        if number == 0:
            tab.press("I agree")
        tab.wait_until(f"{last}.querySelector('.feedback p').innerText.startsWith('Kept. Thank you. A was')")
        heads = tab.evaluate(f"[...{last}.querySelectorAll('section b')].map(one => one.innerText)")
        vote = list(store.votes())[-1]
        names = [NAME if model[0] == "d" else "lake" for model in (vote.model_a, vote.model_b)]
        assert heads == [f"A: {names[0]}", f"B: {names[1]}"]
        assert vote.choice == "b" and vote.messages[-1].content == text
        votes.append(vote)
        shown.add((vote.model_a, vote.model_b))
    assert len(shown) == 2, "the order is drawn: eight times the same has a chance of 1 in 128"
    tab.press("Side by side")
    assert tab.evaluate("document.getElementById('log').childElementCount") == 0
    assert say(tab, "Where is the river?")[-1][0] == "assistant"


def test_who_does_not_agree_learns_the_names_and_nothing_is_kept(tab: Page, store: FeedbackStore) -> None:
    before = store.count()
    tab.press("Side by side")
    tab.evaluate("document.getElementById('text').value = 'The river'")
    tab.press("Send")
    tab.press("Both are good")
    tab.press("Do not keep it")
    tab.wait_until("document.querySelector('#log .feedback p').innerText.startsWith('Nothing was kept. A was')")
    assert store.count() == before


@pytest.mark.parametrize(("width", "columns"), [(1100, 2), (360, 1)])
def test_side_by_side_fits_the_window(tab: Page, width: int, columns: int) -> None:
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
    tab.press("Side by side")
    tab.evaluate(f"document.getElementById('text').value = {'a' * 300!r}")
    tab.press("Send")
    tab.press("A is better")
    tab.wait_until(ASKED)
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    lefts = tab.evaluate("[...document.querySelectorAll('.pair section')].map(one => one.getBoundingClientRect().left)")
    assert len(set(lefts)) == columns
    box = "document.getElementById('consent').getBoundingClientRect()"
    assert tab.evaluate(f"{box}.left >= 0 && {box}.right <= window.innerWidth")
