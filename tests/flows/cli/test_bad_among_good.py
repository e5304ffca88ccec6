"""What is bad costs itself: among good texts, every kind of bad file at once, and not one good text is lost."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bad_collections
import bad_conversations
import bad_sources
import pytest
from bad_input import BadInput
from bad_servers import TRAPS
from sites import page, serving
from support import Command
from web_archives import answer, record, web_page

GOOD = 30
SENTENCE = "This text is number {} of those that are good, and nobody may lose it."


def lay_out(folder: Path, rows: Iterable[BadInput], good: dict[str, str]) -> list[str]:
    """Put the files of all rows and the good ones into a folder; returns the names of the bad."""
    folder.mkdir()
    for good_name, text in good.items():
        (folder / good_name).write_text(text, encoding="utf-8")
    names = []
    for number, row in enumerate(rows):
        for name, contents in row.files.items():
            if name == "recipe.yaml":
                continue
            data = contents() if callable(contents) else contents
            names.append(f"{number:02}-{name}")
            (folder / names[-1]).write_bytes(data if isinstance(data, bytes) else data.encode())
    return names


def collected(command: Command, home: Path, folder: Path, section: str, options: str = "") -> dict[str, Any]:
    """The summary of a run over the folder that allows what is bad; what is kept, and the ledger, by `cat`."""
    recipe = folder.parent / "recipe.yaml"
    source = f"{{path: '{folder}', allow_truncated: true{options}}}"
    recipe.write_text(f"collect: {{{section}: [{source}], max_bad_fraction: 1, heldout_fraction: 0}}\n")
    report = command.json("run", str(recipe), "--plain", "--to", "collect", home=home)
    return dict(report["stages"][0]["artifact"]["summary"])


def rows_of(command: Command, home: Path, part: str, stage: str = "collect") -> list[dict[str, Any]]:
    status, out, err = command("cat", f"latest/{stage}/{part}", "--limit", "100000", home=home)
    assert status == 0, err
    return [json.loads(line) for line in out.splitlines()]


def assert_all_good(command: Command, home: Path) -> None:
    texts = "\n".join(row["text"] for row in rows_of(command, home, "documents"))
    assert all(SENTENCE.format(number) in texts for number in range(GOOD))


def without_options(rows: Iterable[BadInput]) -> list[BadInput]:
    """Rows about files that are read as any other."""
    return [row for row in rows if str(row.files["recipe.yaml"]).count(",") == 1]


def test_among_files(home: Path, command: Command, tmp_path: Path) -> None:
    kinds = (bad_sources.CONTENTS, bad_sources.PACKED, bad_sources.DOCUMENTS, bad_sources.ARCHIVES)
    rows = without_options(row for group in (*kinds, bad_collections.ARCHIVES) for row in group)
    good = {f"good-{number}.txt": SENTENCE.format(number) for number in range(GOOD)}
    names = lay_out(tmp_path / "in", rows, good)
    assert len(names) >= 55
    summary = collected(command, home, tmp_path / "in", "files")
    assert_all_good(command, home)
    assert summary["read"] == summary["kept"] + summary["dropped"] + summary["quarantined"]
    listed = " ".join(row["file"] for row in rows_of(command, home, "quarantine"))
    counted = [row.name for row, name in zip(rows, names, strict=True) if name not in listed]
    assert counted == [
        *("nothing but nulls", "nothing but blank lines", "CSV with a header alone"),
        *("gz in gz by name", "archives in an archive", "zip that leads out", "zip of links", "zip of pictures"),
        *("zip of hidden files", "tar that leads out", "tar of links", "tar of hard links", "tar of devices"),
        "tar with a name that is not UTF-8",
    ]
    said = " ".join(summary["notices"])
    assert "1 .gz.gz" in said and "1 .png" in said and "1 hidden member" in said
    assert "8 members are refused: " in said and "-a.zip/b.zip: an archive in an archive" in said


def test_among_conversations(home: Path, command: Command, tmp_path: Path) -> None:
    """A folder of all forms and of every fault: what is good of a file is kept, whatever stands beside it."""
    rows = [row for row in bad_conversations.ROWS if len(row.files) == 2]
    good = {
        "good-1.jsonl": "".join(
            json.dumps({"messages": [{"role": "user", "content": f"Q{n}"}, {"role": "assistant", "content": text}]})
            + "\n"
            for n, text in enumerate(map(SENTENCE.format, range(GOOD)))
        ),
        "good-2.json": json.dumps([{"prompt": f"P{n}", "chosen": "Yes.", "rejected": "No."} for n in range(GOOD)]),
        "good-3.csv": "text,label\n" + "".join(f"Text {n},a\n" for n in range(GOOD)),
    }
    names = lay_out(tmp_path / "in", rows, good)
    summary = collected(command, home, tmp_path / "in", "conversations")
    pairs = {row["answer"] for row in rows_of(command, home, "pairs")}
    assert pairs >= {SENTENCE.format(number) for number in range(GOOD)} | {"So."}
    assert len(rows_of(command, home, "preferences")) == len(rows_of(command, home, "labels")) == GOOD
    (name,) = [name for name in summary if name.endswith(".read")]
    source = name.removesuffix("read")
    assert summary[name] == sum(summary[source + fate] for fate in ("kept", "dropped", "quarantined"))
    listed = {row["file"] for row in rows_of(command, home, "quarantine")}
    assert [name for name in names if name not in listed] == [] and len(listed) >= 17


@pytest.mark.slow
@pytest.mark.parametrize("section", ["warc", "wikipedia"])
def test_among_archives_and_dumps(home: Path, command: Command, tmp_path: Path, section: str) -> None:
    if section == "warc":
        rows = list(bad_collections.WEB_ARCHIVES)
        pages = [
            record(answer(web_page(f"P {n}", SENTENCE.format(n) * 3)), f"https://g{n}.example/") for n in range(GOOD)
        ]
        good = {"good.warc": b"".join(pages).decode()}
    else:
        rows = list(bad_collections.DUMPS)
        articles = [bad_collections.ARTICLE.format(f"T {n}", SENTENCE.format(n)) for n in range(GOOD)]
        good = {"good.xml": f"{bad_collections.HEAD}{''.join(articles)}</mediawiki>"}
    lay_out(tmp_path / "in", rows, good)
    summary = collected(command, home, tmp_path / "in", section, ", seconds: 1" if section == "wikipedia" else "")
    assert_all_good(command, home)
    assert summary["read"] == summary["kept"] + summary["dropped"] + summary["quarantined"]
    files = {row["file"] for row in rows_of(command, home, "quarantine")}
    assert len(files) + summary["dropped"] >= len(rows)


@pytest.mark.slow
def test_among_pages(home: Path, command: Command, tmp_path: Path) -> None:
    """A site with every trap on it: its good pages are kept, and of each trap is said what became of it."""
    traps = {f"/trap-{number}": TRAPS[name] for number, name in enumerate(TRAPS)}
    good = {f"/{number}": page(SENTENCE.format(number) * 3, title=f"P {number}") for number in range(GOOD)}
    pages = {"/": page("All is here.", *good, *traps), **good, **{path: answer for path, (answer, _) in traps.items()}}
    with serving(pages) as site:
        source = f"urls: ['{site.url()}'], allow_private: true, delay_seconds: 0, timeout_seconds: 1"
        (tmp_path / "recipe.yaml").write_text(
            f"collect: {{web: [{{{source}, max_page_bytes: 1000000}}], heldout_fraction: 0}}\n"
        )
        report = command.json("run", str(tmp_path / "recipe.yaml"), "--plain", "--to", "collect", home=home)
        assert_all_good(command, home)
        said = {
            row["url"].removeprefix(site.url("")): row["reason"] for row in rows_of(command, home, "visits", "fetch")
        }
        assert [path for path, (_, reason) in traps.items() if reason not in said[path]] == []
        notices = report["stages"][0]["artifact"]["summary"]["notices"]
        assert f"{len(traps)} addresses gave no page" in notices[0]
