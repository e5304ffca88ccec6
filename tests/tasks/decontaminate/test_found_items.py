"""An item is found wherever it stands and however it is written; what is less than a run is not."""

import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.documents import TRAIN, Document, write_documents, write_rows
from tasks.decontaminate.cut import without
from tasks.decontaminate.find import INDEX, MATCHES, Held, Judge, find_matches
from tasks.decontaminate.index import build_index, read_index
from tasks.decontaminate.items import ITEMS_SCHEMA, item_row

ITEMS = {
    "english": "Which of these gases do plants take in from the air by day, and which do they give off by night? It is",
    "german": "Welches Maß ist größer: die Straße außerhalb der Stadt oder der Weg, den man täglich zum Schloß geht?",
    "hindi": "पौधे दिन में हवा से कौन सी गैस लेते हैं और कौन सी गैस छोड़ते हैं यह एक वाक्य में बताइए।",
    "chinese": "植物白天从空气中吸收哪一种气体，又放出哪一种气体？请用一句话回答这个问题并说明理由。",
    "thai": "พืชดูดซับก๊าซชนิดใดจากอากาศในเวลากลางวันและปล่อยก๊าซชนิดใดออกมาโปรดตอบเป็นประโยคเดียวพร้อมบอกเหตุผล",
    "greek": "Ποιο αέριο παίρνουν τα φυτά από τον αέρα την ημέρα, και ποιο δίνουν πίσω τη νύχτα στους ανθρώπους;",
}
SPACED = ("english", "german", "hindi", "greek")
FILLING = ["The river is quiet.", "Der Fluß ist still, sagt er.", "नदी शांत है।", "河水很安静。", "แม่น้ำเงียบสงบ", "x", ""]
CONFIG = {"run_words": 13, "least_words": 8}
CUTTING = {"margin_characters": 0, "min_piece_characters": 0, "most_cuts": 10}


def found_in(
    shards: Sequence[Sequence[str]], items: Sequence[str], run_words: int = 13, least_words: int = 8
) -> list[tuple[int, Held]]:
    """The number of the shard and what was found, in order."""
    config = {"run_words": run_words, "least_words": least_words, "part": "documents"}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_rows(root / "items", (item_row("b", str(n), text) for n, text in enumerate(items)), ITEMS_SCHEMA)
        build_index(config, {"items": root / "items"}, root)
        index = {path.name: path for path in root.iterdir()}
        judge = Judge(read_index(index), np.ones(len(np.load(index["hashes.npy"])), bool), 0.0)
        for number, texts in enumerate(shards):
            write_documents(root / "rows", (Document(str(n), text, "s", "g", TRAIN) for n, text in enumerate(texts)))
            inputs = {"rows": root / "rows", **{INDEX + name: path for name, path in index.items()}}
            find_matches(config, inputs, root)
            found += [(number, held) for held in judge.held(np.load(root / MATCHES))]
    return found


def disguised(text: str, case: str, mark: str, space: str) -> str:
    """The same words in another case, with another sign and other white space between them."""
    text = getattr(text, case)() if case else text
    return f"{mark}{space}".join(text.split(" ")) if " " in text else text.replace("，", mark)


@given(
    name=st.sampled_from(list(ITEMS)),
    case=st.sampled_from(["", "upper", "lower", "title", "swapcase"]),
    mark=st.sampled_from(["", ",", " –", "!", "_", "”", "।", "、", "؟", " ★", "\u00a0"]),
    space=st.sampled_from([" ", "\n", "\t\t", "  \r\n ", "\u3000"]),
    shards=st.lists(
        st.lists(st.lists(st.sampled_from(FILLING), max_size=6), min_size=1, max_size=4), min_size=1, max_size=3
    ),
    place=st.tuples(st.integers(0), st.integers(0), st.integers(0)),
    form=st.sampled_from(["NFC", "NFD", "NFKC"]),
)
@settings(max_examples=60, deadline=None)
def test_an_item_is_found_at_any_place_of_any_document_whatever_it_is_disguised_as(
    name: str,
    case: str,
    mark: str,
    space: str,
    shards: list[list[list[str]]],
    place: tuple[int, int, int],
    form: Literal["NFC", "NFD", "NFKC"],
) -> None:
    shard = place[0] % len(shards)
    row = place[1] % len(shards[shard])
    sentences = shards[shard][row]
    planted = unicodedata.normalize(form, disguised(ITEMS[name], case, mark, space))
    sentences.insert(place[2] % (len(sentences) + 1), planted)
    texts = [[" ".join(document) for document in documents] for documents in shards]
    items = list(ITEMS.values())
    found = found_in(texts, items)
    assert [(number, held.row, held.item) for number, held in found] == [(shard, row, items.index(ITEMS[name]))]
    assert found[0][1].share == 1
    text = texts[shard][row]
    left = without(text, found[0][1].spans, CUTTING)
    assert not found_in([[left]], items), "what is cut out is the item"
    assert len(left) >= len(text) - len(planted) - 2 * max(map(len, FILLING)) - 2, "and little else"


@pytest.mark.parametrize("name", SPACED)
def test_twelve_words_in_a_row_are_none_and_thirteen_are_one(name: str) -> None:
    words = ITEMS[name].split()
    for start in range(len(words) - 13):
        twelve, thirteen = (" ".join(words[start : start + count]) for count in (12, 13))
        assert not found_in([[f"So: {twelve} xyz {' '.join(words[start + 13 :])[:20]}"]], [ITEMS[name]])
        held = found_in([[f"So: {thirteen} xyz"]], [ITEMS[name]])[0][1]
        assert 0 < held.share < 1 and held.spans == ((1, 14),)


@pytest.mark.parametrize(("name", "letters"), [("chinese", 20), ("thai", 52)])
def test_where_no_space_is_a_run_has_so_many_letters(name: str, letters: int) -> None:
    units: list[str] = []
    for character in ITEMS[name]:
        if unicodedata.category(character)[0] == "M":
            units[-1] += character
        elif character.isalnum():
            units.append(character)
    assert not found_in([["".join(units[: letters - 1])]], [ITEMS[name]])
    assert found_in([["".join(units[:letters])]], [ITEMS[name]])


def test_a_short_item_is_found_as_a_whole_alone() -> None:
    short, shorter = "Many girls in this town insulted themselves last night", "Many girls insulted themselves"
    text = "He said: many GIRLS in this town insulted, themselves last... night; so what."
    assert [held.item for _, held in found_in([[text]], [short, shorter])] == [0]
    assert not found_in([[text.replace("last", "the other")]], [short, shorter])
    assert [held.item for _, held in found_in([[text]], [short, "insulted themselves last night"], least_words=4)] == [
        0,
        1,
    ]
    assert found_in([["全部的女孩昨天晚上都侮辱了自己吗"]], ["女孩昨天晚上都侮辱了自己"], least_words=8)


def test_nothing_is_found_in_nothing() -> None:
    assert not found_in([["", " ", "one"], []], list(ITEMS.values()))
    assert not found_in(
        [["The river is quiet and wide, and nobody is on it at this time of day in spring."]], ["", "?!"]
    )


def test_repeats_and_neighbours_do_not_run_into_each_other() -> None:
    """A run that begins in one text and ends in the next is in neither."""
    words = ITEMS["english"].split()
    assert not found_in([[" ".join(words[:8]), " ".join(words[8:16])]], [ITEMS["english"]])
    twice = f"{ITEMS['english']} And again: {ITEMS['english']}"
    assert len(found_in([[twice]], [ITEMS["english"]])[0][1].spans) == 2
    assert [held.item for _, held in found_in([[twice]], [ITEMS["english"], twice])] == [0, 1]


def test_one_item_inside_another_is_cut_out_with_it() -> None:
    text = " ".join(f"w{number}" for number in range(40))
    assert without(text, [(0, 30), (2, 5)], CUTTING) == " ".join(f"w{number}" for number in range(30, 40))
