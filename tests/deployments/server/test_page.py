"""The page of the model server in a real browser: a conversation, its buttons, its looks, and what it may load."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Page, browser_page, chromium_path
from chat_page import IDLE, SHOWN, opened, say
from model_server import NAME, Address, model_server
from open_models import write_qwen
from test_moderation import judge_of

from deployments.server.pages import HEADERS, OPEN, WORDS
from deployments.server.served import Place, serve_model
from storage.service import Limits, Service
from tasks.moderate.folding import folded, tokens

pytestmark = pytest.mark.slow
WORDS_OF_CHAT = WORDS["chat"]
needs_browser = pytest.mark.skipif(chromium_path() is None, reason="no chromium in PATH")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Address]:
    with model_server(folder) as address:
        yield address


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser_page() as page:
        yield page


@needs_browser
def test_a_conversation_goes_on_and_is_asked_again_edited_and_cleared(tab: Page, server: Address) -> None:
    opened(tab, server)
    first = say(tab, "Where is the river?")
    assert [role for role, _ in first] == ["user", "assistant"] and first[0][1] == "Where is the river?"
    settings: Any = {"model": NAME, "max_tokens": 12}
    asked: Any = [{"role": "user", "content": "Where is the river?"}]
    whole = server.client().chat.completions.create(messages=asked, **settings).choices[0].message.content
    assert first[1][1].strip() == (whole or "").strip()
    second = say(tab, "And the castle?")
    assert second[:2] == first and len(second) == 4, "the conversation goes on"
    asked += [{"role": "assistant", "content": whole}, {"role": "user", "content": "And the castle?"}]
    whole = server.client().chat.completions.create(messages=asked, **settings).choices[0].message.content
    assert second[3][1].strip() == (whole or "").strip(), "all turns are sent"
    tab.press("Answer again")
    tab.wait_until(IDLE)
    assert tab.evaluate(SHOWN) == second, "the likeliest answer is the same"
    tab.evaluate("document.querySelector('#log li.user button').click()")
    assert tab.evaluate(SHOWN) == [] and tab.evaluate("document.getElementById('text').value") == "Where is the river?"
    say(tab, "A letter")
    tab.press("Begin anew")
    assert tab.evaluate(SHOWN) == []
    assert not [event for event in tab.events if event["method"] == "Log.entryAdded"], (
        "the browser complains of nothing"
    )


@needs_browser
def test_what_is_said_is_text_and_an_error_is_shown(tab: Page, server: Address) -> None:
    opened(tab, server)
    shown = say(tab, "<img src=x onerror=document.title=1><b>bold</b>")
    assert shown[0][1] == "<img src=x onerror=document.title=1><b>bold</b>"
    assert tab.evaluate("document.querySelectorAll('#log img').length") == 0
    shown = say(tab, "river " * 2000)
    assert shown[-1][0] == "wrong" and "context is 1024 tokens" in shown[-1][1]
    assert "edit an earlier message, or begin anew" in shown[-1][1]


@needs_browser
def test_an_answer_is_stopped_by_the_button(tab: Page, server: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    model = server.server.served.release.model
    plain = model.logits

    def endless(hidden: torch.Tensor) -> torch.Tensor:
        scores = plain(hidden)
        scores[..., 360:] = -1e9
        return scores

    monkeypatch.setattr(model, "logits", endless)
    opened(tab, server)
    tab.evaluate("document.getElementById('most').value = ''; document.getElementById('text').value = 'The river'")
    tab.press("Send")
    tab.wait_until("document.querySelector('#log li.assistant p')?.innerText.length > 0")
    tab.press("Stop")
    tab.wait_until(IDLE)
    assert tab.evaluate("document.getElementById('status').innerText") == "Stopped."
    assert tab.evaluate(SHOWN)[-1][0] == "assistant", "what was said so far stays"
    assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})[0] == 200


@needs_browser
def test_an_answer_that_moderation_ends_is_told_so(tab: Page, server: Address, folder: Path, tmp_path: Path) -> None:
    """A word of what the model would say is made a rude one."""
    prompts = [f"Where is the river {number}?" for number in range(20)]
    prompt, word = next((text, word) for text in prompts for word in words_said(server, text) if len(word) > 2)
    with model_server(folder, moderator=judge_of(tmp_path, word)) as judged:
        opened(tab, judged)
        shown = say(tab, prompt)
        assert [role for role, _ in shown] == ["user", "assistant"] and word not in shown[1][1]
        assert "this server does not pass on" in tab.evaluate("document.getElementById('status').innerText")
        shown = say(tab, f"A {word}")
        assert shown[-1][0] == "wrong" and "flagged as rude" in shown[-1][1]


def words_said(server: Address, prompt: str) -> list[str]:
    """The words of the likeliest answer of 12 tokens."""
    said: Any = [{"role": "user", "content": prompt}]
    reply = server.client().chat.completions.create(model=NAME, messages=said, max_tokens=12)
    return tokens(folded(reply.choices[0].message.content or ""))


@needs_browser
def test_another_champion_is_named_by_the_open_page(tab: Page, server: Address, tmp_path: Path) -> None:
    other = write_qwen(tmp_path / "lake", context_length=1024)
    opened(tab, server)
    say(tab, "Where is the river?")
    before = server.server.swap(serve_model(Place(other, "lake", "e" * 64), server.server.settings))
    try:
        assert say(tab, "Where is the river?")[-1][0] == "assistant", "the conversation goes on"
        heads = "[document.querySelector('h1').innerText, document.title, document.getElementById('status').innerText]"
        head, title, said = tab.evaluate(heads)
        assert (head, title) == ("lake", "lake · llmill") and said.startswith(
            "Another model answers from now on: lake."
        )
    finally:
        server.server.swap(before).engine.stop()


@needs_browser
def test_the_page_offers_what_the_card_shows(tab: Page, tmp_path: Path) -> None:
    folder = write_qwen(tmp_path / "lake", context_length=256)
    asked = ['Where is the "old" <mill>?', "河在哪里？", "น้ำ"]
    rows: list[Any] = [{"prompt": one, "answer": "x"} for one in asked]
    rows[1:1] = ["no sample", {"prompt": 3}, {"prompt": " "}, {"prompt": "x" * 5000}]
    (folder / "samples.json").write_text(json.dumps(rows))
    with model_server(folder) as server:
        opened(tab, server)
        assert tab.evaluate("document.getElementById('text').placeholder") == asked[0]
        for wanted in (*asked, asked[0]):
            tab.press("Example")
            assert tab.evaluate("document.getElementById('text').value") == wanted
        tab.press("Send")
        tab.wait_until(IDLE)
        assert tab.evaluate(SHOWN)[0] == ["user", asked[0]]


@needs_browser
@pytest.mark.parametrize("samples", ["{", "[]", '{"prompt": "x"}', None])
def test_a_folder_without_samples_has_the_usual_example(tab: Page, tmp_path: Path, samples: str | None) -> None:
    folder = write_qwen(tmp_path / "lake", context_length=256)
    if samples is not None:
        (folder / "samples.json").write_text(samples)
    with model_server(folder) as server:
        opened(tab, server)
        tab.press("Example")
        assert tab.evaluate("document.getElementById('text').value") == WORDS_OF_CHAT["example"]


@needs_browser
def test_the_keyboard_does_all_and_a_screen_reader_is_told(tab: Page, server: Address) -> None:
    opened(tab, server)

    def key(name: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            tab.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **typed)

    def to(label: str) -> None:
        for _ in range(30):
            if tab.evaluate("document.activeElement.innerText?.trim()") == label:
                return
            key("Tab", 9)
        raise AssertionError(f"Tab leads to no {label}")

    tab.evaluate("document.getElementById('text').focus()")
    tab.call("Input.insertText", text="แม่น้ำอยู่ที่ไหน")
    key("Enter", 13, "\r")
    tab.wait_until(f"{IDLE} && {SHOWN}.length === 2")
    assert tab.evaluate(SHOWN)[0] == ["user", "แม่น้ำอยู่ที่ไหน"]
    to("Good")
    key("Enter", 13, "\r")
    tab.wait_until("document.getElementById('consent').open")
    to("I agree")
    key("Enter", 13, "\r")
    tab.wait_until("document.querySelector('.feedback p').innerText === 'Kept. Thank you.'")
    assert tab.evaluate("document.activeElement.innerText.trim()") == "Good", "the keyboard is where it was"
    to("Correct it")
    key("Enter", 13, "\r")
    tab.call("Input.insertText", text="河边")
    to("Send correction")
    key("Enter", 13, "\r")
    tab.wait_until("document.querySelector('.feedback textarea').checkVisibility() === false")
    nodes = [node for node in tab.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    told = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes}
    for wanted in (
        *(("log", WORDS_OF_CHAT["log"]), ("textbox", WORDS_OF_CHAT["label"]), ("heading", NAME)),
        *(("group", "What you say of this answer"), ("button", "Send"), ("button", "Good"), ("button", "Bad")),
    ):
        assert wanted in told, wanted
    assert not [role for role, name in told if role in ("button", "textbox", "spinbutton") and not name]


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1100, False), (1100, True), (360, False), (360, True)])
def test_it_fits_the_window_and_can_be_read(tab: Page, server: Address, width: int, dark: bool) -> None:
    opened(tab, server, width=width, dark=dark)
    say(tab, "a" * 300)
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    colours = tab.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    text, ground = (sum(map(int, colour[4:-1].split(","))) for colour in colours)
    assert (text > ground) == dark and abs(text - ground) > 400
    fields = "[...document.querySelectorAll('input, textarea')].every(one => one.labels.length === 1)"
    assert tab.evaluate(fields), "each field has a label"
    assert tab.evaluate("[...document.querySelectorAll('button')].every(one => one.innerText || one.hidden)")
    assert tab.evaluate("document.activeElement.id") == "text", "the keyboard is where one writes"


@needs_browser
def test_a_key_is_entered_on_the_page(tab: Page, folder: Path, tmp_path: Path) -> None:
    service = Service(f"sqlite:///{tmp_path / 'service.db'}")
    secret = service.add_key("ada", "standard", Limits())
    with model_server(folder, service) as server:
        opened(tab, server)
        shown = say(tab, "The river")
        assert shown[-1][0] == "wrong" and "a key is asked for" in shown[-1][1]
        tab.evaluate(f"document.getElementById('key').value = '{secret}'")
        tab.press("Answer again")
        tab.wait_until(f"{IDLE} && {SHOWN}.at(-1)[0] === 'assistant'")


def test_its_files_come_from_here_alone_under_a_strict_policy(server: Address) -> None:
    for path in OPEN:
        status, headers, text = server.ask("GET", path)
        assert status == 200 and headers["content-security-policy"] == HEADERS["content-security-policy"]
        assert "'unsafe" not in headers["content-security-policy"] and "http" not in text.replace("https://", "")
        assert "innerHTML" not in text and "<script>" not in text and "style=" not in text
    assert WORDS_OF_CHAT["purpose"] in server.ask("GET", "/")[2]
