"""The page of the model server in a real browser: a conversation, its buttons, its looks, and what it may load."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Page, browser_page, chromium_path
from chat_page import IDLE, SHOWN, opened, say
from model_server import NAME, Address, model_server

from deployments.server.pages import HEADERS, OPEN, WORDS
from storage.service import Limits, Service

pytestmark = pytest.mark.slow
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
    assert WORDS["chat"]["purpose"] in server.ask("GET", "/")[2]
