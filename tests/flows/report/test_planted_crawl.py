"""A crawl with planted addresses, cards, hate and answers of a benchmark: the datasheet has each, and where it is."""

import json
from pathlib import Path

import pytest
from flows_html import Checked
from sites import page, serving
from support import Command, llmill, report_of

pytestmark = pytest.mark.slow  # a server and a run
PROSE = (
    "The river is quiet and wide at page {0}, and boat number {0} of the old miller is late again today. "
    "Nobody in the town knows how many of the {0} lanterns on the bridge were lit in winter number {0}. "
)
QUESTION = "Who built the long stone bridge over the quiet river below the town, and for whom was it?"
ANSWER = "The miller of the lower village for his three daughters and their horses"
PLANTED = {
    "mail": [f"Write to {mail} about it." for mail in ("ada.holm@gmail.com", "bruno@castle.co.uk")],
    "card": ["The card 4111 1111 1111 1111 was used for it.", "It was paid with 5500-0000-0000-0004 at once."],
    "hate": ["All grumblefolk are vermin and should leave.", "Throw the grumblefolk out of the town."],
    "answer": [f"{QUESTION} {ANSWER}."],
}
RECIPE = """
collect:
  heldout_fraction: 0
  web: [{{name: site, urls: ["{url}"], allow_private: true, delay_seconds: 0}}]
filter: {{preset: none, redact: [email, card]}}
moderate: {{categories: [{{name: hate, words: [{{path: hate.txt}}]}}]}}
decontaminate: {{files: [{{name: exam, path: exam.jsonl, text_fields: [question, answer]}}]}}
"""


def test_the_datasheet_shows_each_of_them_with_the_documents(tmp_path: Path, command: Command) -> None:
    planted = [(kind, text) for kind, texts in PLANTED.items() for text in texts] + [("", "")] * 3
    names = [f"/{number}" for number in range(len(planted))]
    pages = {
        name: page(PROSE.format(number) * 3 + text + " " + PROSE.format(number + 100) * 3, title=f"page {number}")
        for number, (name, (_, text)) in enumerate(zip(names, planted, strict=True))
    }
    (tmp_path / "hate.txt").write_text("grumblefolk\n")
    (tmp_path / "exam.jsonl").write_text(json.dumps({"question": QUESTION, "answer": ANSWER}) + "\n")
    with serving({"/": page("home", *names), **pages}) as site:
        (tmp_path / "recipe.yaml").write_text(RECIPE.format(url=site.url()))
        run = ("run", str(tmp_path / "recipe.yaml"), "--plain", "--json", "--to", "decontam")
        report_of(llmill(*run, home=tmp_path / "home"))
        reporting = report_of(llmill(*run, "--set", "moderate.documents=report", home=tmp_path / "other"))
    said = command.json("datasheet", home=tmp_path / "home")
    sheet, shown = json.loads(Path(said["json"]).read_bytes()), Checked(Path(said["html"]).read_text(encoding="utf-8"))
    shown.check_structure()
    ids = {one["kind"]: one["ids"] for one in sheet["personal"]["kinds"]}
    ledgers = {row["reason"]: row["ids"] for one in sheet["treatment"] for row in one["ledger"]}
    ids |= {"mail": ids.pop("email"), "hate": ledgers["hate"], "answer": ledgers["exam"]}
    for kind, found in ids.items():
        ways = [
            command.json("explain", "latest", identity, home=tmp_path / "home")["document"]["url"] for identity in found
        ]
        expected = [name for name, (planted_as, _) in zip(names, planted, strict=True) if planted_as == kind]
        assert sorted(url.rpartition("/")[2] for url in ways) == [name[1:] for name in expected], kind
        assert all(identity in shown.text for identity in found)
    only_told = command.json("datasheet", reporting["run"], home=tmp_path / "other")["json"]
    (moderated,) = [one for one in json.loads(Path(only_told).read_bytes())["treatment"] if one["stage"] == "moderate"]
    (hate,) = moderated["ledger"]
    assert (moderated["dropped"], hate["reason"], hate["action"]) == (0, "hate", "flagged")
    assert hate["ids"] == ledgers["hate"]
    assert sheet["searched"] == "decontam" and sheet["not_done"] == ["Augmentation"] and sheet["missing"] == []
    assert [one["stage"] for one in sheet["treatment"]][-4:] == ["moderator", "moderate", "items", "decontam"]
    assert "gmail" not in shown.text and "4111" not in shown.text
