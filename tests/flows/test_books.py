"""The recipe `books`: a folder of books of several forms, in languages of any script."""

import json
from pathlib import Path

from document_files import epub
from support import Command

GERMAN = "Der Fluss kam aus den Bergen, und am Abend saßen die Menschen der Stadt {} lange am Wasser."
JAPANESE = "川は山から流れて町{}を通り、人々は夕方になると長い間座って話をした。"


def test_german_texts_and_japanese_books_are_read(home: Path, command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    for number in range(6):
        (folder / f"de{number}.txt").write_text(GERMAN.format(number), encoding="utf-8")
        (folder / f"ja{number}.epub").write_bytes(epub({"one": f"<p>{JAPANESE.format(number)}</p>"}, ["one"]))
    chosen = ("--set", f"collect.files.0.path={folder}", "--set", "collect.heldout_groups=[de0.txt]")
    assert command.json("plan", "books", *chosen, home=home)["stages"][0]["will"] == "build"
    report = command.json("run", "books", "--plain", "--to", "collect", *chosen, home=home)
    assert report["stages"][0]["artifact"]["summary"]["kept"] == 12
    shown = command("cat", "latest/collect/documents", "--limit", "20", home=home)[1].splitlines()
    texts = {row["group"]: row["text"] for row in map(json.loads, shown)}
    assert (texts["de3.txt"], texts["ja4.epub"]) == (GERMAN.format(3), JAPANESE.format(4))
