"""Models ranked by votes: what the arithmetic promises, whatever the votes are."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from storage.feedback import Preference
from tasks.evaluate.statistics.votes import MEAN, Ranking, Standing, rank

DRAWS = 20
MODELS = ("a1", "b2", "c3", "d4")
Said = tuple[str, str, Preference]
SWAPPED: dict[Preference, Preference] = {"a": "b", "b": "a", "tie": "tie", "both_bad": "both_bad"}
pairs = some.sampled_from([(one, other) for one in MODELS for other in MODELS if one != other])
choices: some.SearchStrategy[Preference] = some.sampled_from(["a", "b", "tie", "both_bad"])
votes = some.lists(some.tuples(pairs, choices).map(lambda one: (*one[0], one[1])), min_size=1, max_size=40)


def by_model(ranking: Ranking) -> dict[str, Standing]:
    return {one.model: one for one in ranking.standings}


@settings(max_examples=25)
@given(votes, some.randoms(use_true_random=False))
def test_the_order_of_votes_and_of_the_two_answers_makes_no_difference(said: list[Said], dice: random.Random) -> None:
    expected = rank(said, DRAWS)
    mixed = [(b, a, SWAPPED[choice]) if dice.random() < 0.5 else (a, b, choice) for a, b, choice in said]
    dice.shuffle(mixed)
    found = rank(mixed, DRAWS)
    assert (found.standings, found.meetings, found.decided) == (
        expected.standings,
        expected.meetings,
        expected.decided,
    ), "to the last digit"


@settings(max_examples=25)
@given(votes)
def test_who_loses_where_others_win_stands_as_far_below_as_they_stand_above(said: list[Said]) -> None:
    ranked = by_model(rank(said, DRAWS))
    turned = by_model(rank([(a, b, SWAPPED[choice]) for a, b, choice in said], DRAWS))
    for model, one in ranked.items():
        assert one.points - MEAN == pytest.approx(MEAN - turned[model].points, abs=0.05)
        assert (one.wins, one.losses, one.ties) == (turned[model].losses, turned[model].wins, turned[model].ties)
        assert one.low <= one.high and all(map(math.isfinite, (one.low, one.points, one.high)))


@settings(max_examples=25)
@given(votes)
def test_names_make_no_difference(said: list[Said]) -> None:
    names = dict(zip(MODELS, reversed(MODELS), strict=True))
    ranked = by_model(rank(said, DRAWS))
    renamed = by_model(rank([(names[a], names[b], choice) for a, b, choice in said], DRAWS))
    for model, one in ranked.items():
        assert one.points == pytest.approx(renamed[names[model]].points, abs=0.05)
        assert one.votes == renamed[names[model]].votes


@given(some.integers(0, 200), some.integers(0, 200), some.integers(0, 50), some.integers(0, 50))
@settings(max_examples=25)
def test_two_models_have_the_odds_of_their_votes(wins: int, losses: int, ties: int, bad: int) -> None:
    """With one tie more, whose halves are one win each way: points differ by 400 times the logarithm of the odds."""
    kinds: list[tuple[Said, int]] = [
        (("a1", "b2", "a"), wins),
        (("b2", "a1", "a"), losses),
        (("a1", "b2", "tie"), ties),
        (("b2", "a1", "both_bad"), bad),
    ]
    said = [one for one, number in kinds for _ in range(number)]
    if not said:
        assert rank(said, DRAWS).standings == ()
        return
    half = (ties + bad + 1) / 2
    expected = 400 * math.log10((wins + half) / (losses + half))
    ranked = by_model(rank(said, DRAWS))
    assert ranked["a1"].points - ranked["b2"].points == pytest.approx(expected, abs=0.05)
    assert ranked["a1"].both_bad == bad and ranked["a1"].votes == wins + losses + ties + bad


def test_strengths_that_made_the_votes_are_found_again() -> None:
    """3,000 votes: the standard error of a difference is about 13 points, so that 60 are five of them."""
    dice, strengths = random.Random(7), {"a1": 300, "b2": 100, "c3": 0, "d4": -400}
    said: list[Said] = []
    for _ in range(3000):
        a, b = dice.sample(MODELS, 2)
        said.append((a, b, "a" if dice.random() < 1 / (1 + 10 ** ((strengths[b] - strengths[a]) / 400)) else "b"))
    ranking = rank(said)
    for one in ranking.standings:
        assert one.points == pytest.approx(MEAN + strengths[one.model], abs=60)
        assert one.low < MEAN + strengths[one.model] < one.high and one.high - one.low < 120
    assert [one.model for one in ranking.standings] == list(MODELS)
    assert ranking.standings[0].best == 1 and ranking.standings[-1].best == 0
    assert rank(said) == ranking, "the same tomorrow"


def test_three_wins_of_three_are_not_sure_of_the_fourth() -> None:
    winner, loser = rank([("b2", "a1", "a")] * 3).standings
    assert (winner.model, loser.model) == ("b2", "a1")
    assert winner.high - winner.low > 200, "few votes, a wide interval"
    many = rank([("b2", "a1", "a"), ("b2", "a1", "b"), ("b2", "a1", "a")] * 300).standings[0]
    assert many.high - many.low < 40


def test_models_that_never_met_stand_in_groups_of_their_own() -> None:
    said: list[Said] = [("d4", "c3", "a"), ("d4", "c3", "a"), ("a1", "b2", "tie"), ("b2", "e5", "b")]
    ranking = rank(said, DRAWS)
    assert [(one.model, one.group) for one in ranking.standings] == [
        ("e5", 0),
        ("a1", 0),
        ("b2", 0),
        ("d4", 1),
        ("c3", 1),
    ]
    for group in (0, 1):
        points = [one.points for one in ranking.standings if one.group == group]
        assert sum(points) / len(points) == pytest.approx(MEAN)
    assert (ranking.decided, ranking.decided_for_a) == (3, 2)
