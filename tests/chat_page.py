"""The model server's page in a browser: opened, and talked to."""

from typing import Any

from browser import Page
from model_server import NAME, Address

SHOWN = "[...document.querySelectorAll('#log li')].map(item => [item.className, item.querySelector('p').innerText])"
IDLE = "!document.getElementById('send').hidden"


def opened(tab: Page, server: Address, **look: Any) -> Page:
    """The page of a server, whose answers have 12 tokens at most."""
    tab.events.clear()
    tab.visit(f"http://127.0.0.1:{server.port}/", **{"width": 1100, **look})
    tab.wait_until(f"document.readyState === 'complete' && document.querySelector('h1')?.innerText === '{NAME}'")
    tab.evaluate("document.getElementById('most').value = '12'")
    return tab


def say(tab: Page, text: str) -> list[list[str]]:
    """Send a text and wait for the answer; what the page shows then: class and text of each turn."""
    tab.evaluate(f"document.getElementById('text').value = {text!r}")
    tab.press("Send")
    tab.wait_until(IDLE)
    shown: list[list[str]] = tab.evaluate(SHOWN)
    return shown
