"""When a loss is said, and in which words."""

import pytest

from storage.errors import DataError
from tasks.notices import Tally, check_nothing_lost, loss_notices

FIELDS = {"min_words": "filter.min_words", "min_language_score": "filter.languages"}


def tally(read: int, **dropped: int) -> Tally:
    return Tally(read, read - sum(dropped.values()), dropped)


def test_the_rule_that_drops_most_is_named_with_its_count_and_field() -> None:
    groups = {"source": {"zh": tally(60, min_words=57), "en": tally(600, min_words=10)}}
    assert loss_notices("filter", groups, FIELDS) == [
        "filter kept 3 of 60 documents of source zh: 57 dropped by min_words (filter.min_words)"
    ]
    groups = {"source": {"zh": tally(60, max_length=7, min_words=50), "en": tally(600)}}
    assert loss_notices("filter", groups, FIELDS, "pairs") == [
        "filter kept 3 of 60 pairs of source zh: 50 dropped by min_words (filter.min_words), 7 by other rules"
    ]
    assert loss_notices("filter", {"source": {"a": tally(4, odd=2, same=2), "b": tally(40)}}, FIELDS) == [
        "filter kept none of 4 documents of source a: 2 dropped by odd, 2 by other rules"
    ]


@pytest.mark.parametrize(("lost", "due"), [(50, False), (51, True)])
def test_half_of_a_source_is_the_limit(lost: int, due: bool) -> None:
    groups = {"source": {"a": tally(100, min_words=lost), "b": tally(100)}}
    assert bool(loss_notices("filter", groups, FIELDS)) is due


@pytest.mark.parametrize(("kept", "due"), [(20, False), (19, True)])
def test_a_fifth_of_a_stage_is_the_limit(kept: int, due: bool) -> None:
    many = {f"s{number}": tally(1, min_words=1) for number in range(100 - kept)} | {"z": tally(kept)}
    sentences = loss_notices("filter", {"source": many}, FIELDS)
    assert (f"{kept} of 100 documents:" in sentences[0]) is due


def test_the_heaviest_loss_stands_first_and_the_stage_before_all() -> None:
    groups = {
        "source": {"a": tally(100, min_words=60), "b": tally(100, min_words=100), "c": tally(1000, min_words=990)},
        "language": {"hi": tally(90, min_language_score=90), "en": tally(1110, min_words=1060)},
    }
    sentences = loss_notices("filter", groups, FIELDS)
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        "filter kept 50 of 1,200 documents",
        "filter kept none of 100 documents of source b",
        "filter kept none of 90 documents of language hi",
        "filter kept 10 of 1,000 documents of source c",
        "filter kept 50 of 1,110 documents of language en",
        "filter kept 40 of 100 documents of source a",
    ]


def test_one_loss_is_said_once() -> None:
    alone = tally(100, min_words=90)
    groups = {"source": {"only": alone}, "language": {"en": alone}}
    assert len(loss_notices("filter", groups, FIELDS)) == 1


def test_what_was_never_read_is_not_a_loss() -> None:
    assert loss_notices("filter", {"source": {"empty": tally(0)}}, FIELDS) == []
    assert loss_notices("filter", {}, FIELDS) == []


def test_many_losses_are_counted() -> None:
    groups = {"source": {f"s{number:03}": tally(10, min_words=6) for number in range(500)}}
    sentences = loss_notices("filter", groups, FIELDS)
    assert len(sentences) == 21 and "480 more" in sentences[-1]


def test_a_source_that_loses_all_can_end_a_stage() -> None:
    check_nothing_lost("filter", {"a": tally(10, min_words=9), "empty": tally(0)}, FIELDS)
    with pytest.raises(DataError, match=r"none of 10 documents of source b: 10 dropped by min_words \(filter.min_w"):
        check_nothing_lost("filter", {"a": tally(10), "b": tally(10, min_words=10)}, FIELDS)
