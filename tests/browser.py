"""Chromium without a window, over its DevTools protocol: what a page looks like, asks for and complains of."""

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support import wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0"),
)


def chromium_path() -> str | None:
    """The browser of this machine, if it has one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One tab. `events` are those the browser has sent since it was opened."""

    def __init__(self, address: str) -> None:
        from websockets.sync.client import connect

        self._socket = connect(address, max_size=1 << 28, open_timeout=30, ping_interval=None)
        self._number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol; returns its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def open(self, path: Path, *, width: int, dark: bool = False) -> None:
        """Show a file in a window of `width` CSS pixels, light or dark."""
        self.visit(path.as_uri(), width=width, dark=dark)
        self.wait_until("document.readyState + location.protocol === 'completefile:'")

    def visit(self, address: str, *, width: int, height: int = 800, dark: bool = False) -> None:
        """Go to an address; what it shows may still be on its way."""
        scheme = "dark" if dark else "light"
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=address)

    def wait_until(self, condition: str) -> None:
        """Until a JavaScript condition holds."""
        wait_until(lambda: self.evaluate(condition), f"the page comes so far: {condition}")

    def press(self, label: str) -> None:
        """Click the button with this label, the newest where there are several, as soon as there is one."""
        found = f"[...document.querySelectorAll('button')].filter(one => one.innerText.trim() === {json.dumps(label)})"
        self.wait_until(f"{found}.length > 0")
        self.evaluate(f"{found}.at(-1).click()")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, target: Path, height: int | None = None) -> None:
        """The page from its top as PNG: all of it, or `height` CSS pixels."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], height or 1e9), "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        target.write_bytes(base64.b64decode(shot["data"]))

    def screenshot_window(self, target: Path) -> None:
        """What the window shows as PNG, without the change of size that makes some pages draw themselves again."""
        target.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def print_pdf(self, target: Path) -> None:
        """The page as it prints on A4."""
        pdf = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)
        target.write_bytes(base64.b64decode(pdf["data"]))


@contextlib.contextmanager
def browser_page() -> Iterator[Page]:
    """A tab of a browser of its own, which ends with it."""
    program = chromium_path()
    assert program, "no chromium on this machine"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        arguments = [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port_file = Path(profile) / "DevToolsActivePort"
            wait_until(lambda: port_file.exists() and port_file.read_text(), "chromium starts", process)
            port = port_file.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
                tabs = json.load(answer)
            yield Page(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))
        finally:
            process.terminate()
            process.wait(10)
