"""Take the pictures of the model server's page: `python docs/chat_screenshots.py ADDRESS`.

ADDRESS is that of a server of two models for declarations: `llmill serve REF --beside REF`. Needs a chromium in PATH.
Writes chat.png, chat-dark.png, chat-phone.png, chat-phone-dark.png and side-by-side.png into docs/images/.
"""

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

from browser import Page, browser_page  # noqa: E402

FOLDER = HERE / "images"
LOOKS = (
    ("chat", 900, 700, False),
    ("chat-dark", 900, 700, True),
    ("chat-phone", 390, 844, False),
    ("chat-phone-dark", 390, 844, True),
)
WIDE = ("side-by-side", 1000, 560, False)
ASKED = "def add_edge(graph, source, target)"
CORRECTION = "Add an edge from source to target."
IDLE = "!document.getElementById('send').hidden"


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description="Pictures of the model server's page.")
    parser.add_argument("address", help="such as http://127.0.0.1:8000")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    with browser_page() as page:
        for name, width, height, dark in LOOKS:
            take(page, options.address, name, width, height, dark)
        take_beside(page, options.address)


def take(page: Page, address: str, name: str, width: int, height: int, dark: bool) -> None:
    """A conversation, and a correction that is being written."""
    open_page(page, address, width, height, dark)
    ask(page)
    page.press("Correct it")
    field = "document.querySelector('.feedback textarea')"
    page.evaluate(f"{field}.value = {json.dumps(CORRECTION)}; {field}.blur()")
    page.evaluate("document.querySelector('main').scrollTop = 1e9")
    page.screenshot_window(FOLDER / f"{name}.png")


def take_beside(page: Page, address: str) -> None:
    """Two answers, before the vote."""
    name, width, height, dark = WIDE
    open_page(page, address, width, height, dark)
    page.press("Side by side")
    ask(page)
    page.wait_until("document.querySelector('#log .feedback') !== null")
    page.screenshot_window(FOLDER / f"{name}.png")


def open_page(page: Page, address: str, width: int, height: int, dark: bool) -> None:
    """The page, new, in a window of that size in CSS pixels."""
    page.visit(address, width=width, height=height, dark=dark)
    page.wait_until("document.readyState === 'complete' && document.querySelector('h1') !== null")


def ask(page: Page) -> None:
    """Send a declaration, and wait for what is answered."""
    page.evaluate(f"document.getElementById('text').value = {json.dumps(ASKED)}")
    page.press("Send")
    page.wait_until(IDLE)


if __name__ == "__main__":
    main()
