"""A run whose recipe moderates, as its owner sees it: the report's tables, and what explain says of a text."""

import html
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from support import Command, llmill, report_of

from tasks.wording import as_per_cent

pytestmark = pytest.mark.slow
WORDS = ("river", "castle", "doctor", "engine", "garden", "letter", "market", "window", "bridge", "silver")
OFFERS = {"en": "win a free prize now", "de": "jetzt gratis gewinnen", "zh": "点击领取奖品", "th": "คลิกรับรางวัล"}
GREETINGS = {"en": "see you", "de": "bis bald", "zh": "明天见", "th": "แล้วเจอกัน"}
TEXTS = {  # and what it is flagged as
    "The river is quiet and wide.": "",
    "河水很安静，船夫在桥下等着客人。": "",
    "แม่น้ำเงียบสงบ และ เรือ จอด อยู่": "",
    "你真是个傻瓜。河水很安静。": "rude",
    "ไอ้โง่ แม่น้ำเงียบ": "rude",
    "我的邮箱是ada.l@gmail.com谢谢": "personal",
}
RECIPE = """
collect:
  heldout_fraction: 0.5
  files: [{name: own, path: texts.jsonl}]
  conversations: [{name: talk, path: pairs.json}]
  labels: [{name: mails, path: mails.jsonl, by: [lang]}]
filter: {preset: none}
moderate:
  categories:
  - {name: rude, words: [{path: rude.txt}]}
  - {name: personal, detectors: [email]}
  - {name: spam, labels: [spam], threshold: 0.9, words: [{path: free.txt}]}
"""


def mails() -> list[dict[str, str]]:
    """In four languages; every third sells something, and German ones that do not give something away."""
    draw, rows = random.Random(3), []
    for number in range(240):
        lang, spam = ("en", "de", "zh", "th")[number % 4], number % 3 == 0
        said = "gratis" if lang == "de" else GREETINGS[lang]
        text = f"{OFFERS[lang] if spam else said} {' '.join(draw.choices(WORDS, k=8))} {number}"
        rows.append({"text": text, "label": "spam" if spam else "ham", "lang": lang})
    return rows


@pytest.fixture(scope="module")
def moderated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A home with that run, and its report."""
    folder = tmp_path_factory.mktemp("moderated")
    pairs = [
        {"prompt": "What is a fool?", "completion": "Somebody unwise."},
        {"prompt": "他是谁？", "completion": "一个傻瓜。"},
    ]
    for name, rows in (("texts", [{"id": str(n), "text": text} for n, text in enumerate(TEXTS)]), ("mails", mails())):
        lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (folder / "pairs.json").write_text(json.dumps(pairs))
    (folder / "rude.txt").write_text("fool\n傻瓜\nไอ้โง่\n", encoding="utf-8")
    (folder / "free.txt").write_text("gratis\n", encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE)
    run = ("run", str(folder / "recipe.yaml"), "--plain", "--json", "--to", "moderate")
    return folder / "home", report_of(llmill(*run, home=folder / "home"))


def tables_of(report: str) -> dict[str, list[list[str]]]:
    """The cells of each table of a report, by its caption."""
    text = Path(report).read_text(encoding="utf-8")
    tables = re.findall(r"<table.*?</table>", text, re.DOTALL)
    cells = [
        [
            [
                html.unescape(re.sub(r"<[^>]+>", "", cell)).strip()
                for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.S)
            ]
            for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        ]
        for table in tables
    ]
    captions = [re.search(r"<caption[^>]*>(.*?)</caption>", table, re.DOTALL) for table in tables]
    return {html.unescape(found[1]).strip(): rows for found, rows in zip(captions, cells, strict=True) if found}


def test_the_report_says_how_well_it_judges_and_whom_it_accuses(moderated: tuple[Path, dict[str, Any]]) -> None:
    run = moderated[1]
    tables = tables_of(run["report"])
    part = next(stage for stage in run["stages"] if stage["stage"] == "moderator")["artifact"]["parts"]["figures"]
    figures = json.loads((Path(part["uri"].removeprefix("file://")) / "figures.json").read_text())
    (head, spam) = tables["Moderation of held-out rows"]
    assert head[:7] == ["category", "threshold", "held-out rows", "of it", "precision", "recall", "F1"]
    (said,) = figures["categories"]
    assert spam[:4] == ["spam", "0.9", str(said["rows"]), str(said["of_it"])]
    assert [float(one) for one in spam[4:7]] == pytest.approx(
        [said[k] for k in ("precision", "recall", "f1")], abs=5e-4
    )
    assert float(spam[4]) < 1
    _, *groups = tables["False alarms of moderation by group"]
    assert groups[0][:2] == ["lang: de", "spam"] and float(groups[0][3].split()[0]) > 20, "the worst comes first"
    assert {tuple(group[::3]) for group in groups[2:]} == {
        (f"lang: {lang}", as_per_cent(0)) for lang in ("en", "th", "zh")
    }


def test_the_report_counts_documents_and_pairs_apart(moderated: tuple[Path, dict[str, Any]]) -> None:
    report = moderated[1]["report"]
    assert tables_of(report)["Pairs that moderation dropped"][1:] == [["pairs", "rude", "1"]]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", Path(report).read_text(encoding="utf-8")))
    assert "rude 2 · 33.3 %" in text and "personal 1 · 16.7 %" in text
    for flagged in (text for text, category in TEXTS.items() if category):
        assert flagged in text, "each reason has its examples"


@pytest.mark.parametrize(("text", "category"), TEXTS.items())
def test_explain_says_why_a_document_is_there_or_not(
    text: str, category: str, moderated: tuple[Path, dict[str, Any]], command: Command
) -> None:
    found = command.json("explain", "latest", str(list(TEXTS).index(text)), home=moderated[0])
    step = found["steps"][-1]
    assert (step["stage"], step["verdict"]) == ("moderate", "dropped" if category else "kept")
    assert step.get("reason", "") == category
    assert step["score_rude"] == float(category == "rude") and step["score_personal"] == float(category == "personal")


def test_explain_says_why_a_pair_is_there_or_not(moderated: tuple[Path, dict[str, Any]], command: Command) -> None:
    kept = command.json("explain", "latest", "What is a fool?", home=moderated[0])["steps"][-1]
    assert (kept["stage"], kept["verdict"]) == ("moderate", "kept"), "a question may be about anything"
    lost = command.json("explain", "latest", "他是谁", home=moderated[0])["steps"][-1]
    assert (lost["verdict"], lost["reason"], lost["score"]) == ("dropped", "rude", 1)
