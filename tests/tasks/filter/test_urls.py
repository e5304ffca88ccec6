"""Documents of web addresses that the user's lists name go, in whichever of the usual forms the lists are."""

from pathlib import Path

import pytest
from document_sets import rows_of, run, training

from storage.errors import DataError
from tasks.engine.config import relocated
from tasks.filter import FilterConfig, filter_documents
from tasks.filter.edit import edit
from tasks.filter.interface import is_interface
from tasks.filter.stage import job_settings
from tasks.filter.urls import UrlRules, observe_url_lists

BAD = (
    "http://ads.example.com/x",
    "HTTPS://user@Example.com:8080",
    "sub.tracker.net/p?q=1",
    "https://www.good.org/bad/page",
)
FINE = (
    "http://myexample.com/",
    "https://good.org/badger",
    "https://good.org/",
    "",
    "not an address",
    "http://[::1",
    "com",
)


def listed(folder: Path, text: str, name: str = "list.txt", **more: tuple[str, ...]) -> FilterConfig:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return FilterConfig(blocked_urls=(str(path),), **more)


@pytest.mark.parametrize(
    "text",
    [
        "example.com\ntracker.net\ngood.org/bad\n",
        "# hosts\n127.0.0.1 localhost\n0.0.0.0 example.com ads.example.com # both\n::1 tracker.net\nhttp://good.org/bad/\n",
        "! ads\n||example.com^\n||tracker.net^$third-party\ngood.org/bad",
        "[Adblock Plus 2.0]\n! ads\n||example.com^\n*.tracker.net\ngood.org/bad",
        "\ufeffEXAMPLE.COM\r\n\r\nTracker.net.\r\nhttps://www.good.org/bad\r\n",
    ],
)
def test_lists_of_every_form_block_hosts_with_all_below_and_beginnings_of_addresses(tmp_path: Path, text: str) -> None:
    rules = UrlRules(listed(tmp_path, text))
    assert rules.signals(BAD)[0] == [1] * len(BAD)
    assert rules.signals(FINE)[0] == [0] * len(FINE)


@pytest.mark.parametrize("entry", ["münchen.de", "xn--mnchen-3ya.de", "MÜNCHEN.de", "*.München.de", "||münchen.de^"])
def test_a_host_is_the_same_in_its_own_letters_and_in_those_of_the_name_system(entry: str, tmp_path: Path) -> None:
    rules = UrlRules(listed(tmp_path, f"{entry}\n[2001:db8::1]\n"))
    urls = ("http://münchen.de/a", "https://www.xn--mnchen-3ya.de", "http://munchen.de", f"http://ü{'a.' * 5000}de")
    assert rules.signals((*urls, "http://[2001:db8::1]/"))[0] == [1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    "url", ["https://a.org/Wette-heute", "https://a.org/赌博/1", "https://a.org/%E8%B5%8C%E5%8D%9A"]
)
def test_words_are_found_however_an_address_writes_their_letters(url: str, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("wette\n赌博\n", encoding="utf-8")
    rules = UrlRules(FilterConfig(url_words=(str(tmp_path / "words"),)))
    assert rules.signals((url, "https://a.org/%E8%B5%8C", "https://a.org/wetter%ZZ"))[1] == [1, 0, 0]


def test_a_folder_is_read_as_the_lists_of_toulouse_are_kept(tmp_path: Path) -> None:
    (tmp_path / "ut1" / "adult").mkdir(parents=True)
    (tmp_path / "ut1" / "adult" / "domains").write_text("example.com\n")
    (tmp_path / "ut1" / "adult" / "urls").write_text("good.org/bad\n")
    (tmp_path / "ut1" / "adult" / "usage").write_text("black\n")
    config = FilterConfig(blocked_urls=(str(tmp_path / "ut1"),))
    assert UrlRules(config).signals(BAD)[0] == [1, 1, 0, 1]
    assert sorted(observe_url_lists(config)) == ["blocked_urls/0/adult/domains", "blocked_urls/0/adult/urls"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"example.com\ntwo words\n", "line 2: 'two words'"), (b"\xff\xfe", "line 1: not UTF-8")],
)
def test_a_line_that_is_none_is_refused_by_its_number(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(DataError, match=said):
        UrlRules(FilterConfig(blocked_urls=(str(tmp_path / "list"),)))
    with pytest.raises(DataError, match=r"filter\.url_words\.0: .*no such file"):
        observe_url_lists(FilterConfig(url_words=(str(tmp_path / "none"),)))


def test_the_stage_drops_by_address_and_word_and_a_changed_list_is_seen(home: Path, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("casino\n")
    config = listed(tmp_path, "example.com\n", url_words=(str(tmp_path / "words"),))
    urls = ("http://example.com/a", "http://fine.org/Casino-night", "http://fine.org/casinos", "")
    rows = [(f"Text {number} is here.", "train", "web", "", "{}", url) for number, url in enumerate(urls)]
    artifact, summary = run(home, filter_documents, config, rows)
    assert [row["rule"] for row in rows_of(artifact, "ledger")] == ["max_blocked_url", "max_url_words"]
    assert [row["url_words"] for row in rows_of(artifact, "signals")] == [0, 1, 0, 0]
    assert summary["kept"] == 2
    (tmp_path / "list.txt").write_text("fine.org\n")
    assert run(home, filter_documents, config, rows)[1]["dropped_max_blocked_url"] == 2


def test_lists_are_found_from_where_the_recipe_lies() -> None:
    moved = relocated(FilterConfig(blocked_urls=("a", "b")), lambda given: f"/base/{given}")
    assert moved.blocked_urls == ("/base/a", "/base/b")
    assert moved.identity() == FilterConfig().identity(), "what is there decides, not where it lies"


BUTTONS = """BREAKING NEWS TODAY
3 likes
1.2k views · 14 comments
2019 | 2020
Home
Sign in to comment
The mill was old. Read more...
You have 3 items in your cart
Share on Facebook"""
SENTENCES = """The mill was old, and NASA knew it.
Three people liked the film.
3 views of the river show how it bends.
Signing in is easy once the account has been made by the owner of the house.
人人生而自由
https://a.b/cccccccccccccccccccccccccccccccccccccc"""


@pytest.mark.parametrize("line", BUTTONS.splitlines())
def test_lines_of_buttons_and_counters_are_no_text(line: str) -> None:
    assert is_interface(line, line.split())


@pytest.mark.parametrize("line", SENTENCES.splitlines())
def test_sentences_stay(line: str) -> None:
    words = list(line) if "人" in line else line.split()
    assert not is_interface(line, words)


def test_a_document_that_lost_a_twentieth_of_its_words_so_goes(home: Path) -> None:
    good = "The mill stood by the river, and the miller had been there for as long as anyone could say. " * 1
    config = FilterConfig(preset="none", line_interface=True, max_removed_words=0.05)
    artifact, _ = run(home, filter_documents, config, training(good * 2 + "\nMenu", good + "\nLOG IN NOW"))
    assert [row["rule"] for row in rows_of(artifact, "ledger")] == ["max_removed_words"]
    assert edit("Menu\n" + good, job_settings(config))[1]["line_rule"] == "line_interface"
