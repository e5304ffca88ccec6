"""The stage decontam: what goes, what stays, what is counted, and what is built again."""

import os
import resource
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from contaminated import decontaminated, name_of
from document_sets import rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import ROOT

from storage.errors import DataError

OXYGEN = "Which of these gases do plants take in from the air by day, and which do they give off? Oxygen"
BRIDGE = "Who built the long stone bridge over the quiet river below the town, and for whom was it? The miller"
EXAM = {"exam": [OXYGEN, BRIDGE]}
PROSE = "The river is quiet and wide. "
LONG = PROSE * 30


def test_an_item_is_cut_out_with_what_is_around_it_and_nothing_else_changes(home: Path) -> None:
    text = f"{LONG}{OXYGEN} {LONG}"
    done = decontaminated(home, [[LONG, text], [PROSE]], EXAM)
    kept = done.texts
    assert kept[0] == LONG and kept[2] == PROSE
    before, after = kept[1].split("\n\n")
    start = text.index(OXYGEN)
    assert LONG.startswith(before) and LONG.strip().endswith(after)
    assert start - 200 - 1 <= len(before) <= start - 200 and "plants" not in kept[1]
    assert done.ledger == [
        {
            "id": name_of(text, 1),
            "part": "documents",
            "source": "test",
            "benchmark": "exam",
            "item": "exam-0",
            "action": "cut",
            "share": 1.0,
            "characters": len(text) - len(kept[1]),
            "shard": 0,
        }
    ]
    assert done.states == {"exam-0": "dirty", "exam-1": "clean"}
    assert rows_of(done.artifact, "dirty") == [{"benchmark": "exam", "item": "exam-0"}]
    summary = done.result.summary
    counts = {name: summary[name] for name in ("read", "kept", "dropped", "cut", "items_dirty", "items_clean")}
    assert counts == {"read": 3, "kept": 3, "dropped": 0, "cut": 1, "items_dirty": 1, "items_clean": 1}


def test_a_document_goes_whole_where_little_is_left_or_the_cuts_are_many(home: Path) -> None:
    many = "".join(f"{LONG}{item} " for item in [OXYGEN, BRIDGE] * 6)
    few = "".join(f"{LONG}{item} " for item in [OXYGEN, BRIDGE] * 5) + LONG
    done = decontaminated(home, [[PROSE + OXYGEN, many, few, LONG]], EXAM)
    assert [row["action"] for row in done.ledger] == ["dropped", "dropped", "dropped", "cut", "cut"]
    assert len(done.texts) == 2 and done.texts[1] == LONG and len(done.texts[0].split("\n\n")) == 11
    whole = decontaminated(home, [[PROSE + OXYGEN, many, few, LONG]], EXAM, most_cuts=0)
    assert whole.texts == [LONG]


def test_report_takes_nothing_out_and_finds_the_same(home: Path) -> None:
    shards = [[f"{LONG}{OXYGEN}", BRIDGE, LONG]]
    removed = decontaminated(home, shards, EXAM)
    reported = decontaminated(home, shards, EXAM, mode="report")
    assert reported.texts == shards[0] and removed.texts[-1:] == [LONG] != removed.texts
    assert {row["action"] for row in reported.ledger} == {"reported"}
    assert reported.states == removed.states and reported.items == removed.items
    assert reported.artifact["dirty"].digest == removed.artifact["dirty"].digest


def test_rows_of_supervised_data_go_whole_wherever_the_item_is(home: Path) -> None:
    rows = {
        "pairs": [
            ("", OXYGEN, "yes", ""),
            ("", "who", "me", ""),
            (OXYGEN, "so", "no", ""),
            ("", "q", f"Well, {OXYGEN}", ""),
        ],
        "preferences": [("", "which", "the first", f"{BRIDGE}"), ("", "a", "b", "c")],
        "labels": [("", f"{BRIDGE} today", "news", ""), ("", "spam", "ham", "")],
    }
    done = decontaminated(home, [[LONG]], EXAM, rows=rows)
    left = {part: [row["prompt"] for row in rows_of(done.artifact, part)] for part in rows}
    assert left == {"pairs": ["who"], "preferences": ["a"], "labels": ["spam"]}
    assert [(row["part"], row["id"]) for row in done.ledger] == [
        *(("pairs", f"pairs{number}") for number in (0, 2, 3)),
        ("preferences", "preferences0"),
        ("labels", "labels0"),
    ]
    assert done.result.summary["pairs_dropped"] == 3 and done.result.summary["labels_dropped"] == 1
    assert done.texts == [LONG]


def test_a_run_that_is_in_many_texts_is_a_phrase_and_that_is_said(home: Path) -> None:
    texts = [f"{LONG}{number} {OXYGEN}" for number in range(11)]
    done = decontaminated(home, [texts[:6], texts[6:]], EXAM)
    assert done.texts == texts and done.states["exam-0"] == "common"
    assert any("decontaminate.most_texts" in notice for notice in done.result.summary["notices"])
    assert len(decontaminated(home, [texts[:10]], EXAM).ledger) == 10
    assert len(decontaminated(home, [texts], EXAM, most_texts=None).ledger) == 11


def test_the_form_of_the_questions_is_no_part_of_any(home: Path) -> None:
    form = "The following are multiple choice questions with answers about the life of birds in the north:"
    items = {"birds": [f"{form} {word * 3} " + " ".join(f"{word}{n}" for n in range(14)) for word in "abcdefghijkl"]}
    text = f"{LONG}{form} and so on"
    assert not decontaminated(home, [[text]], items).ledger
    own = decontaminated(home, [[LONG + " ".join(f"c{n}" for n in range(14))]], items)
    assert own.items == ["birds-2"]
    assert decontaminated(home, [[text]], {"birds": items["birds"][:2]}).ledger, "of few items no form can be told"


def test_a_share_can_be_asked_for(home: Path) -> None:
    half = " ".join(OXYGEN.split()[:13])
    assert not decontaminated(home, [[LONG + half]], EXAM, min_overlap=0.7).ledger
    found = decontaminated(home, [[LONG + half]], EXAM, min_overlap=0.6).ledger
    assert [row["share"] for row in found] == [pytest.approx(13 / 20, abs=1e-6)]


def test_another_benchmark_rebuilds_only_what_it_finds_in_the_data(home: Path) -> None:
    shards = [[f"{LONG}{OXYGEN}"], [LONG, f"{LONG}{BRIDGE}"]]
    first = decontaminated(home, shards, {"exam": [OXYGEN]})
    absent = decontaminated(
        home, shards, {"exam": [OXYGEN], "other": ["What is asked here is in no text at all. " * 3]}
    )
    assert absent.result.outcome == "built"
    assert absent.artifact["documents"].digest == first.artifact["documents"].digest, "so what follows is reused"
    more = decontaminated(home, shards, {"exam": [OXYGEN], "other": [BRIDGE]})
    files = [[file.digest for file in one.artifact["documents"].files] for one in (first, more)]
    assert files[0][0] == files[1][0] and files[0][1] != files[1][1]
    again = decontaminated(home, shards, {"exam": [OXYGEN], "other": [BRIDGE]})
    assert again.result.outcome == "reused" and again.artifact.digest == more.artifact.digest


@given(
    places=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=8, unique=True),
    workers=st.integers(1, 2),
)
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_workers_and_shards_change_nothing(
    places: list[tuple[int, int]], workers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shards = [[f"{row}{shard} {LONG}" for row in range(7)] for shard in range(5)]
    for number, (shard, row) in enumerate(places):
        shards[shard][row] += (OXYGEN, BRIDGE)[number % 2]
    one = decontaminated(tmp_path_factory.mktemp("one"), shards, EXAM, workers=workers)
    other = decontaminated(tmp_path_factory.mktemp("other"), [[*chain(*shards)]], EXAM, workers=1)
    assert one.texts == other.texts
    names = ("benchmark", "item", "share", "action", "characters")
    assert [[row[name] for name in names] for row in one.ledger] == [
        [row[name] for name in names] for row in other.ledger
    ]
    assert len(one.ledger) == len(places) and one.artifact["found"].digest == other.artifact["found"].digest


def test_a_source_of_nothing_but_items_is_an_error(home: Path) -> None:
    with pytest.raises(DataError, match=r"none of 2 documents of source test.*decontaminate\.min_overlap"):
        decontaminated(home, [[OXYGEN, BRIDGE]], EXAM)


def check_sizes(home: Path) -> None:
    """Eight megabytes in one text, and a hundred thousand texts of a line."""
    huge = [f"{PROSE * 150_000}{OXYGEN} {PROSE * 150_000}"]
    tiny = [f"{number} {PROSE}" for number in range(100_000)]
    tiny[70_000] = f"{LONG}{BRIDGE}"
    done = decontaminated(home, [huge, tiny], EXAM)
    taken = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert taken.ru_utime < 60, "seconds; about 3 were seen"
    assert taken.ru_maxrss < 1 << 20, "kilobytes; about 400,000 were seen"
    assert [(row["shard"], row["action"]) for row in done.ledger] == [(0, "cut"), (1, "cut")]
    assert len(huge[0]) - len(done.texts[0]) < 600


@pytest.mark.slow
def test_one_huge_document_and_very_many_tiny_ones(home: Path) -> None:
    """In a process of its own, whose children are those of the stage alone."""
    command = "import sys, test_decontaminate_stage as here; here.check_sizes(here.Path(sys.argv[1]))"
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent)))
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", command, str(home)], check=True, env=environment)
