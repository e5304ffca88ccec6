"""The datasheet of a corpus: it says what the store says, shows no personal data, and is the same for equal corpora."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flows_html import Checked
from support import Command, llmill, unwrapped

from flows.report.datasheet.shown import example_text, short_text
from storage.canonical import digest_file

Smoke = tuple[Path, dict[str, Any]]
HOSTILE = "<script>alert('it ran')</script><img src=x onerror=alert(1)>"
MAIL, OTHER_MAIL = "ada.holm@gmail.com", "bruno.castle@web.de"
CARD = "4111 1111 1111 1111"
LONG = "The river is quiet and wide, and the boats are late again today. " * 4  # 260 characters
RIVER = {
    "mail": f"{HOSTILE} Write to {MAIL} about the boats on the wide river, or ask the miller of the town.",
    "chinese": f"河水很安静，船夫在桥下等着客人。 {OTHER_MAIL} 请写信给他。" * 3,
    "cut": f"{LONG}{'and so on ' * 5} {MAIL} {LONG}",
    "short": f"Only {MAIL}.",
    "shorter": f"Call {CARD} {OTHER_MAIL}.",
    "plain": LONG,
}


def written(command: Command, home: Path, *options: str) -> tuple[dict[str, Any], Checked]:
    """The JSON and the page that the command writes."""
    said = command.json("datasheet", *options, home=home)
    page = Checked(Path(said["html"]).read_text(encoding="utf-8"))
    page.check_nothing_is_loaded()
    page.check_structure()
    return json.loads(Path(said["json"]).read_bytes()), page


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A home with a run on texts that hold personal data and HTML, one that fails there, and one of pairs alone."""
    folder = tmp_path_factory.mktemp("own corpus")
    rows = [{"id": name, "text": text, "title": f"{name} {MAIL}"} for name, text in RIVER.items()]
    lines = [json.dumps({**row, "license": f"by {MAIL} {HOSTILE}"}, ensure_ascii=False) for row in rows]
    (folder / "texts.jsonl").write_text("\n".join([*lines, '{"broken": ' + MAIL]) + "\n", encoding="utf-8")
    pairs = [{"prompt": f"Who is {n}?", "completion": f"One of {n}, at {MAIL}."} for n in ("Ada", "Bruno", "Clara")]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    source = "{name: river, path: texts.jsonl}"
    (folder / "texts.yaml").write_text(
        f"collect: {{heldout_fraction: 0, max_bad_fraction: 1, files: [{source}]}}\nfilter: {{preset: none, "
        "redact: [email], min_words: 12}\n"
    )
    (folder / "pairs.yaml").write_text("collect: {conversations: [{name: talk, path: pairs.json}]}\n")
    home, runs = folder / "home", {}
    for name, recipe, more in (
        ("done", "texts", ("--to", "filter")),
        ("failed", "texts", ("--set", "filter.min_words=9999")),
        ("pairs", "pairs", ("--to", "filter")),
    ):
        result = llmill("run", str(folder / f"{recipe}.yaml"), "--plain", "--json", *more, home=home)
        runs[name] = json.loads(result.stdout)["run"]
    return {"home": home, **runs}


def test_counts_are_those_of_the_run(smoke: Smoke, command: Command, tmp_path: Path) -> None:
    sheet, page = written(command, smoke[0], "--output", str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["datasheet.html", "datasheet.json"]
    stages = {stage["stage"]: stage["artifact"] for stage in smoke[1]["stages"]}
    assert [one["stage"] for one in sheet["treatment"]] == ["collect", "deduplicate", "filter"], "what made the corpus"
    for one in sheet["treatment"]:
        summary = stages[one["stage"]]["summary"]
        assert all(one[name] == summary[name] for name in ("read", "kept", "dropped", "quarantined"))
        assert sum(reason["count"] for reason in one["reasons"]) == one["dropped"]
    filtered, held = stages["filter"], sheet["composition"]
    assert held["documents"] == filtered["summary"]["kept"] == held["training"] + held["heldout"]
    assert sheet["digest"] == filtered["parts"]["documents"]["digest"]
    (source,) = held["sources"]
    assert source["bytes"] == filtered["summary"]["kept_bytes"] and source["tokens"] > 1000
    by_source, by_language = sheet["tokens"]
    ((name, *_, tokens, ratio),) = by_source["rows"]
    assert (name, tokens) == (source["name"], f"{source['tokens']:,}")
    assert sum(int(row[2].replace(",", "")) for row in by_language["rows"]) == source["tokens"]
    encoded = stages["tokenize"]["summary"]
    size = encoded["train_bytes"] + encoded["heldout_bytes"]
    assert by_source["rows"][0][1] == f"{size:,}" and ratio == f"{size / source['tokens']:.4g}"
    assert "tokens are in no training text." in by_source["note"] and "Tokens by language" in page.text
    assert sum(row["training"] for row in held["rows"]) == stages["collect"]["summary"]["pairs_train"]
    assert sheet["missing"] == [] and sheet["sources"][0]["where"] == ["400 documents made by code"]
    ids = [row["ids"] for one in sheet["treatment"] if one["stage"] == "filter" for row in one["ledger"]]
    assert all(
        command.json("explain", "latest", some[0], home=smoke[0])["steps"][-1]["verdict"] == "dropped" for some in ids
    )
    sections = ["motivation", "composition", "collection", "preprocessing", "uses", "distribution", "maintenance"]
    assert [attributes["id"] for _, attributes in page.elements if "id" in attributes] == [*sections, "record"]
    for questions in sheet["open_questions"].values():
        assert questions and all(question in page.text for question in questions)
    for build in sheet["builds"]:
        assert build["key"] in page.text and build["libraries"]


def test_equal_corpora_give_equal_bytes(two_runs: Path, command: Command, tmp_path: Path) -> None:
    """The second run has fine-tuned otherwise: its corpus is the first one's."""
    runs = [run["run"] for run in command.json("runs", home=two_runs)]
    made = [command.json("datasheet", run, "--output", str(tmp_path / f"{run}.json"), home=two_runs) for run in runs]
    assert len(runs) == 2 and made[0]["html"] == str(tmp_path / f"{runs[0]}.html")
    one, other = (Path(files["json"]).read_bytes() for files in made)
    assert one == other and not any(run.encode() in one for run in runs)
    pages = [Path(files["html"]).read_text().replace(Path(files["json"]).name, "") for files in made]
    assert pages[0] == pages[1]


def test_what_was_worked_out_before_gives_the_same_bytes(smoke_home: Path, command: Command, tmp_path: Path) -> None:
    for name in ("first", "again"):
        command.json("datasheet", "--output", str(tmp_path / name), home=smoke_home)
        shutil.rmtree(smoke_home / "cache" / "report")
    for ending in ("html", "json"):
        first, again = (tmp_path / name / f"datasheet.{ending}" for name in ("first", "again"))
        assert first.read_bytes() == again.read_bytes()


def test_nothing_personal_is_shown_and_hostile_text_is_text(own: dict[str, Any], command: Command) -> None:
    sheet, page = written(command, own["home"], own["done"])
    text = json.dumps(sheet, ensure_ascii=False) + page.text
    for piece in ("gmail", "ada.holm", "bruno.castle", "4111", "1111 1111"):
        assert piece not in text
    assert HOSTILE in page.text and "email@example.com" in page.text
    assert str(own["home"].parent) not in text, "no folders of a machine"
    shown = [one["text"] for one in sheet["composition"]["examples"]]
    dropped = {one["id"]: one for reason in sheet["treatment"][-1]["reasons"] for one in reason["examples"]}
    assert len(shown) == 3 and {one["text"] for one in dropped.values()} == {
        "Only email@example.com.",
        f"Call {short_text(CARD)} email@example.com.",
    }


def test_personal_data_are_counted_by_kind_with_the_documents(own: dict[str, Any], command: Command) -> None:
    sheet, page = written(command, own["home"], own["done"])
    (mail,) = sheet["personal"]["kinds"]
    found = {name: text.count("@") for name, text in RIVER.items() if "@" in text}
    assert (mail["kind"], mail["found"], mail["documents"]) == ("email", sum(found.values()), len(found))
    assert mail["replaced"] == sum(found.values()) - 2, "two of the documents were dropped"
    ways = [command.json("explain", own["done"], identity, home=own["home"]) for identity in mail["ids"]]
    assert {way["document"]["metadata"]["id"] for way in ways} == set(found)
    assert all(identity in page.text for identity in mail["ids"])


def test_a_corpus_that_was_not_tokenized_has_no_tables_of_tokens(own: dict[str, Any], command: Command) -> None:
    sheet, page = written(command, own["home"], own["done"])
    assert sheet["tokens"] == [] and "Tokens by" not in page.text


def test_a_run_that_failed_says_what_is_missing(own: dict[str, Any], command: Command) -> None:
    sheet, page = written(command, own["home"], own["failed"])
    assert sheet["missing"] == [{"stage": "filter", "why": "it failed"}]
    assert sheet["corpus"] == "deduplicate/documents" and "This corpus is not whole filter: it failed" in page.text
    assert sheet["personal"] is None and "No stage of this run looked for any." in page.text
    assert any("personal data" in question for question in sheet["open_questions"]["composition"])
    assert "gmail" not in json.dumps(sheet) + page.text, "here nothing was redacted before"


def test_conversations_alone_have_a_datasheet(own: dict[str, Any], command: Command) -> None:
    sheet, page = written(command, own["home"], own["pairs"])
    (row,) = sheet["composition"]["rows"]
    assert (row["part"], row["source"], row["training"] + row["heldout"]) == ("pairs", "talk", 3)
    mails = next(one for one in sheet["personal"]["kinds"] if one["kind"] == "email")
    assert mails["in_rows"] == 3 and "gmail" not in json.dumps(sheet) + page.text


def test_a_part_that_is_gone_is_named(smoke_home: Path, command: Command) -> None:
    for name in ("signals", "documents"):
        folder = smoke_home / "store/parts/filter" / name
        folder.rename(folder.with_name("gone" + name))
    sheet, _ = written(command, smoke_home)
    assert sheet["missing"] == [{"stage": "filter", "why": "its data are gone or damaged: documents, signals"}]
    assert sheet["composition"]["documents"] == 0 and sheet["treatment"][0]["kept"] > 0
    shutil.rmtree(smoke_home / "store/artifacts")
    status, _, err = command("datasheet", home=smoke_home)
    assert status == 2 and "are gone; run its recipe again" in unwrapped(err)


def test_a_release_gets_it_and_its_checksums(smoke_home: Path, command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    sheet, _ = written(command, smoke_home, "--into", str(folder))
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert sums.returncode == 0 and "datasheet.json: OK" in sums.stdout and "model.safetensors: OK" in sums.stdout
    before = {path.name: digest_file(path) for path in folder.iterdir() if path.is_file()}
    assert written(command, smoke_home, "--into", str(folder))[0] == sheet
    assert before == {path.name: digest_file(path) for path in folder.iterdir() if path.is_file()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "release"], "nothing is left beside it"
    status, _, err = command("datasheet", "--into", str(smoke_home / "store" / "mine"), home=smoke_home)
    assert status == 2 and "is in the store, whose files never change" in unwrapped(err)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("write to ada@gma...", "write to ..."),
        ("请写信给ada.holm@gma...", "请写信给 ..."),
        ("my card is 4111 1111 11...", "my card is ..."),
        ("ada.holm@gma...", "..."),
        ("a river and a br...", "a river and a ..."),
        ("33.3 % of 1,234", "33.3 % of 1,234"),
        ("0123456789" * 3 + "ab", "0123456789" * 3 + "ab"),
    ],
)
def test_a_text_that_was_cut_loses_its_last_word(text: str, shown: str) -> None:
    assert short_text(text) == shown


def test_an_address_where_the_example_ends_is_replaced_before_it_is_cut() -> None:
    for length in range(290, 322):
        assert "ada" not in example_text(f"{'x' * length} {MAIL} {LONG}")
