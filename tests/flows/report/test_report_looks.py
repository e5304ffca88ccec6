"""How the report looks: its colours and scales, and the page in a browser, on a wide screen and on a phone."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser import browser_page, chromium_path
from hypothesis import given
from hypothesis import strategies as st
from report_data import data_of, score_line
from support import ROOT

from flows.report.charts import Scale, ticks
from flows.report.page import render, write_report
from flows.report.run_data import RunData
from flows.report.scores import scores_of
from storage.runs import find_run
from storage.store.local import Store
from tasks.evaluate.score import Score

Smoke = tuple[Path, dict[str, Any]]


def test_colours_are_distinguished_by_weak_eyes() -> None:
    """WCAG 2: 4.5 for text, 3 for signs, on both grounds, light and dark."""
    style = (ROOT / "flows/report/style.css").read_text()
    light, dark = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in style.split(":root {")[1:3])
    assert light.keys() == dark.keys() and len(light) > 15
    for colours in (light, dark):
        for ground in ("page", "panel"):
            for text in ("ink", "soft", "base", "tuned", "train", "heldout", "good-ink", "bad-ink", "warn-ink"):
                needed = 4.5 if text != "train" else 3.0  # a label beside its line, 13 px and bold
                assert contrast(colours[text], colours[ground]) >= needed, (text, ground)
        for sign in ("kept", "dropped", "bad", "baseline"):
            assert contrast(colours[sign], colours["page"]) >= 2.8, sign
        for name in ("good", "bad", "warn"):
            assert contrast(colours[f"{name}-ink"], colours[f"{name}-back"]) >= 4.5, name


def contrast(one: str, other: str) -> float:
    """Ratio of the relative luminances of two colours, as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[first : first + 2], 16) / 255 for first in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 9))
def test_ticks_are_few_and_round_and_within(low: float, span: float, count: int) -> None:
    found = ticks(low, low + span, count)
    assert len(found) <= count + 1 and found == sorted(set(found))
    assert all(low - 1e-6 * span - 1e-6 <= value <= low + span * (1 + 1e-6) + 1e-6 for value in found)


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6), st.booleans())
def test_a_scale_keeps_order_and_ends(low: float, span: float, logarithmic: bool) -> None:
    scale = Scale(low, low + span, logarithmic)
    assert abs(scale(low)) < 1e-9 and (abs(scale(low + span) - 1) < 1e-9 or low + span == low)
    assert -1e-9 <= scale(low + span / 2) <= 1 + 1e-9


@pytest.mark.slow
def test_a_browser_shows_it_without_an_error_a_request_or_a_sideways_scroll(smoke: Smoke, tmp_path: Path) -> None:
    if chromium_path() is None:
        pytest.skip("no chromium in PATH")
    path = write_report(Store(smoke[0]), find_run(smoke[0], "latest"))
    with browser_page() as tab:
        for width in (360, 800, 1280):
            for dark in (False, True):
                tab.open(path, width=width, dark=dark)
                assert tab.evaluate("document.documentElement.scrollWidth") <= width
        asked = [
            event["params"]["request"]["url"] for event in tab.events if event["method"] == "Network.requestWillBeSent"
        ]
        assert {url for url in asked if not url.startswith("data:")} == {path.as_uri()}
        said = [event for event in tab.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
        assert not said, said


OUT_OF_REACH = """(() => {
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const inside = (one) => one.getBoundingClientRect().right <= innerWidth + 1 && one.getBoundingClientRect().left >= -1;
  const scrolls = (one) => ["auto", "scroll"].includes(getComputedStyle(one).overflowX);
  const reached = (one, sideways) => {
    if (inside(one)) return true;
    for (let above = one.parentElement; sideways && above; above = above.parentElement)
      if (scrolls(above) && inside(above)) return true;
    return false;
  };
  const cut = [...document.querySelectorAll("main *")].filter((one) => {
    const drawn = one.closest("svg") || one.closest(".hidden") || !one.getClientRects().length;
    return !drawn && !reached(one, one.closest("details") !== null);
  });
  return JSON.stringify(cut.map((one) => `${one.tagName} ${one.innerText.slice(0, 40)}`));
})()"""
TABLES = (
    *("Candidate and champion compared", "Stages of this run", "Both models", "Reference figures", "Canaries"),
    *("Passages of the corpus", "All scores", "Parts and their digests", "Where and with what each stage"),
)


@pytest.mark.slow
def test_on_a_phone_every_cell_of_every_table_is_reached(
    smoke: Smoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By reading on; in what is folded away also by scrolling a table sideways by itself."""
    if chromium_path() is None:
        pytest.skip("no chromium in PATH")
    guard: dict[str, Any] = {
        "name": "choice/accuracy_mutual_information",
        "verdict": "unclear",
        "items": 40,
        "old": 0.275,
    }
    guard |= {"new": 0.3, "difference": 0.025, "low": -0.125, "high": 0.2}
    verdict: dict[str, Any] = {
        "decision": "promoted",
        "reasons": ["better"],
        "candidate": "1",
        "champion": "2",
        "champion_run": "x" * 50,
    }
    verdict |= {"confidence": 0.95, "figure": {**guard, "name": "heldout/bits_per_byte"}, "guards": [guard]}
    reference = [
        {
            "model": "a-model-with-a-name-of-some-length-124M",
            "value": 0.412,
            "protocol": "x",
            "source": "https://example.org/" * 9,
        }
    ]
    known = Score.model_validate(score_line("arc_easy", "acc", "base", 0.3, references=reference))
    monkeypatch.setattr("flows.report.page.scores_of", lambda data: (*scores_of(data), known))
    data = data_of(smoke[0])
    path = tmp_path / "report.html"
    path.write_text(render(RunData(data.store, {**data.run, "pipeline": "retrain", "verdict": verdict})))
    with browser_page() as tab:
        for dark in (False, True):
            tab.open(path, width=360, dark=dark)
            assert json.loads(tab.evaluate(OUT_OF_REACH)) == []
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        captions = tab.evaluate("[...document.querySelectorAll('caption')].map((one) => one.textContent).join()")
        assert all(table in captions for table in TABLES), captions
