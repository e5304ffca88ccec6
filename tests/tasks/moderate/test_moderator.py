"""What is flagged and what is not: words in every script, personal data, secrets; what is written judges alike."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support import cost_in_loops, shared_data

from storage.errors import DataError
from tasks.moderate.config import ModerationConfig
from tasks.moderate.moderator import Moderator, open_moderator
from tasks.moderate.passages import passages_of


def judge_of(folder: Path, words: str | bytes = "", **more: Any) -> Moderator:
    """A judge of one category `rude` with one list."""
    path = folder / "words.txt"
    path.write_bytes(words if isinstance(words, bytes) else words.encode())
    category = {"name": "rude", "words": [{"path": str(path)}] if words else [], **more}
    return Moderator.of(ModerationConfig.model_validate({"categories": [category]}), "")


@pytest.mark.parametrize(
    ("entry", "flagged", "kept"),
    [
        (
            "ass",
            ["What an ass!", "ASS", "a$$", "@ss", "4ss", "you_ass", "ａｓｓ", "a\u00adss", "an ass-kisser"],
            ["class", "455"],
        ),
        ("a$$", ["you a$$", "ass"], ["a $$ sign", "a"]),
        ("shit", ["sh1t", "Sh!t!", "$hit"], ["shitake", "1 of 5"]),
        ("kill", ["k1ll", "ki11"], ["killer", "skill"]),
        ("Scheiße", ["So eine SCHEISSE.", "scheiße"], ["Scheißerei"]),
        ("Arschloch", ["Du Arschloch.", "arschl0ch"], ["Arsch", "Loch"]),
        ("сука", ["Ты СУКА", "сука!"], ["сукачёв"]),
        ("他妈的", ["这是他妈的天气", "他妈的"], ["他的妈妈"]),
        ("ちくしょう", ["ああちくしょうめ"], ["ちくしゃう"]),
        ("ควย", ["พูดว่าควยไม่ดี"], ["ควาย"]),
        ("चूतिया", ["तू चूतिया है", "चूतिया।"], ["चूतियापा", "चूत"]),
        ("عاهرة", ["يا عاهرة"], ["عاهرةت"]),
        ("씨발", ["야 씨발"], ["씨발라먹"]),
        ("go to hell", ["Go  to\nHELL, now", "go t0 hell"], ["go to hello", "going to hell"]),
        ("2g1c", ["see 2G1C"], ["2g 1c x"]),
        ("🖕", ["take that🖕"], ["👍"]),
    ],
)
def test_an_entry_is_found_as_a_whole_word(entry: str, flagged: list[str], kept: list[str], tmp_path: Path) -> None:
    judge = judge_of(tmp_path, entry + "\n")
    assert [text for text in flagged if not judge.judge(text).flagged] == []
    assert [text for text in kept if judge.judge(text).flagged] == []


def test_a_list_may_have_comments_a_mark_of_its_order_and_the_lines_of_any_system(tmp_path: Path) -> None:
    judge = judge_of(tmp_path, b"\xef\xbb\xbf# rude words\r\n\r\nfool\r\n  dolt  \n#not this\n")
    assert [judge.judge(text).flagged for text in ("a fool", "a dolt", "rude words", "not this")] == [
        ("rude",),
        ("rude",),
        (),
        (),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (b"fool\ndolt\xff\n", r"words.txt, line 2: not UTF-8"),
        (b"# nothing\n\n", "words.txt: holds no word"),
        (b"fool\n" + b"x" * 300, r"words.txt, line 2: 300 characters"),
        (b"fool\nc++\n", r"words.txt, line 2: 'c\+\+' has one letter"),
    ],
)
def test_a_bad_list_is_named_with_its_line(words: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        judge_of(tmp_path, words)


PUBLIC = {
    "hurtlex_DE.tsv": "id\tpos\tcategory\tstereotype\tlemma\tlevel\nDE1\tn\tcds\tno\tDummkopf\tconservative\n",
    "surge.csv": 'text,canonical_form_1,category_1\nd0lt,dolt,"mental disability, insult"\n"Dumm Kopf",x,y\n',
    "dummkopf.jsonl": '{"word": "Dummkopf", "severity": 2}\n{"word": "笨蛋"}\n',
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_lists_in_tables_are_read_by_the_column_of_words(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(PUBLIC[name], encoding="utf-8")
    category = {"name": "rude", "words": [{"path": str(tmp_path / name)}]}
    judge = Moderator.of(ModerationConfig.model_validate({"categories": [category]}), "")
    asked = ("Du DUMMKOPF.", "what a dolt", "so ein dumm Kopf", "你这个笨蛋", "no noun cds text word severity 2 DE1")
    expected = {"hurtlex_DE.tsv": [1, 0, 0, 0, 0], "surge.csv": [0, 1, 1, 0, 0], "dummkopf.jsonl": [1, 0, 0, 1, 0]}
    assert [len(judge.judge(text).flagged) for text in asked] == expected[name]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("words.csv", "id,rude\n1,fool\n", r"words.csv, line 2: no text in a field named word, .*it has: id, rude"),
        ("words.tsv", "word\tlevel\nfool\n", "words.tsv, line 2: the row has 1 fields"),
        ("words.json", '["fool"]', "words.json, line 1: "),
        ("words.json", '[{"word": 5}]', "words.json, line 1: no text in a field"),
        ("words.csv", "word\n", "words.csv: holds no word"),
        ("words.csv", "", "words.csv, line 1: empty file"),
    ],
)
def test_a_table_without_words_is_named_with_its_line(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    category = {"name": "rude", "words": [{"path": str(tmp_path / name)}]}
    with pytest.raises(DataError, match=message):
        Moderator.of(ModerationConfig.model_validate({"categories": [category]}), "")


def test_a_folder_of_lists_goes_by_language(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for name, word in (("de", "die"), ("en.txt", "crap"), ("README.md", "the")):
        (lists / name).write_text(f"{word}\n")
    category = {"name": "rude", "words": [{"path": str(lists)}]}
    judge = Moderator.of(ModerationConfig.model_validate({"categories": [category]}), "")
    english = "The dice are cast and people die slowly, " + "in a long sentence that is of the English language. " * 2
    assert judge.judge(english).flagged == ()
    assert judge.judge(english, "de").flagged == ("rude",), "the source says that it is German"
    assert judge.judge("die").flagged == ("rude",), "of one word no language is clear"
    assert judge.judge("the").flagged == ()
    assert judge.judge(f"{english} Crap.").flagged == ("rude",)


@pytest.mark.parametrize(
    ("detector", "flagged", "kept"),
    [
        ("email", "write to ada.lovelace@gmail.com", "write to email@example.com"),
        ("phone", "call +49 30 901820 now", "in 1998 there were 2500 of them"),
        ("card", "card 4111 1111 1111 1111", "order 4111 1111 1111 1112"),
        ("ip", "it came from 93.184.216.34", "version 1.2.3.4"),
        ("secret", "aws = AKIAIOSFODNN7EXAMPLE", "AKIA is a prefix"),
        ("secret", "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN CERTIFICATE-----"),
        ("secret", "key sk-llmill-" + "aB3" * 12, "sk-learn is a library, sk-2024 a street"),
        ("secret", "ghp_" + "a1B2" * 9, "ghp_short"),
    ],
)
def test_personal_data_and_secrets(detector: str, flagged: str, kept: str, tmp_path: Path) -> None:
    judge = judge_of(tmp_path, detectors=[detector])
    assert judge.judge(flagged).flagged == ("rude",)
    assert judge.judge(kept).flagged == ()


def test_what_is_written_judges_alike_and_is_the_same_twice(tmp_path: Path) -> None:
    judge = judge_of(tmp_path, "fool\n他妈的\n", detectors=["email"])
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        judge.write(tmp_path / name)
    again = open_moderator(tmp_path / "one")
    for text in ("a fool", "他妈的", "a@gmail.com", "well"):
        assert again.judge(text) == judge.judge(text)
    for name in ("moderation.json", "words.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("damage", ["{", "[]", '{"version": 2}', '{"version": 1}', '{"version": 1, "categories": [3]}'])
def test_a_damaged_moderator_is_an_error(damage: str, tmp_path: Path) -> None:
    judge_of(tmp_path, "fool\n").write(tmp_path)
    (tmp_path / "moderation.json").write_text(damage)
    with pytest.raises(DataError):
        open_moderator(tmp_path)


def test_thresholds_are_kept(tmp_path: Path) -> None:
    judge_of(tmp_path, "fool\n", threshold=0.25).write(tmp_path)
    assert json.loads((tmp_path / "moderation.json").read_text())["categories"][0]["threshold"] == 0.25


def test_every_entry_of_public_lists_is_found(tmp_path: Path) -> None:
    """LDNOOBW's lists of 28 languages, as they are."""
    packed = shared_data("dirty", "badword_lists.tar.zst")
    with zstandard.open(packed, "rb") as file, tarfile.open(fileobj=file, mode="r|") as archive:
        archive.extractall(tmp_path, filter="data")
    lists = next(tmp_path.rglob("en")).parent
    category = {"name": "rude", "words": [{"path": str(lists)}]}
    judge = Moderator.of(ModerationConfig.model_validate({"categories": [category]}), "")
    entries = [(entry, words.languages[0]) for words in judge.words["rude"] for entry in words.entries]
    assert len(entries) > 2000
    assert [entry for entry, language in entries if not judge.judge(f"x {entry}, y", language).flagged] == []


def test_no_text_is_slow_to_judge(tmp_path: Path) -> None:
    """What makes patterns go back over it: runs of end marks, of digits, of beginnings of keys, of one letter."""
    judge = judge_of(tmp_path, "fool\n", detectors=["email", "phone", "ip", "secret"])

    def cost(count: int) -> float:
        texts = [
            piece * (count // len(piece)) + "x" for piece in (".", "0123 456 ", "eyJaaaaaaaaaa.", "sk-", "a1", "@")
        ]
        return cost_in_loops(lambda: [(judge.judge(text), list(passages_of(text))) for text in texts])

    assert cost(80_000) < 20 * cost(8_000)
