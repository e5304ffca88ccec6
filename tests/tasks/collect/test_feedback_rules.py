"""What holds of any records: no order decides, nobody held out is learned from, nobody says too much."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.documents import HELDOUT, TRAIN, Message
from tasks.collect.feedback.config import FeedbackSource
from tasks.collect.feedback.records import Said, Verdict
from tasks.collect.feedback.rules import Entry, heldout_users, judge, most_of_a_user

WORDS = ("Here.", "There.", "Nowhere.", "")
VERDICTS: tuple[Verdict, ...] = ("correction", "liked", "disliked", "vote", "undecided")

RECORDS = st.lists(
    st.tuples(
        st.integers(0, 12),  # user
        st.integers(0, 5),  # question
        st.integers(0, 3),  # thread
        st.sampled_from(VERDICTS),
        st.sampled_from(WORDS),
        st.sampled_from(WORDS),
        st.integers(0, 3),  # time
        st.booleans(),
    ),
    max_size=60,
)


def entries(records: list[tuple[int, int, int, Verdict, str, str, int, bool]]) -> list[Entry]:
    made = []
    for place, (user, question, thread, verdict, chosen, rejected, time, near) in enumerate(records):
        asked = (Message("user", f"Where is it, {question}?"),)
        chosen, rejected = chosen * (verdict != "disliked"), rejected * (verdict != "liked")
        said = Said(
            f"feedback {place}", str(time), place, f"{user}", f"{user} {thread}", verdict, asked, chosen, rejected
        )
        made.append(Entry.of(place, said, near=near))
    return made


@settings(max_examples=100)
@given(RECORDS, st.booleans(), st.sampled_from([0.0, 0.2, 0.5]), st.integers(1, 5), st.sampled_from([0.1, 0.3, 1.0]))
def test_the_rules_hold_of_any_records_in_any_order(
    records: list[tuple[int, int, int, Verdict, str, str, int, bool]],
    liked: bool,
    share: float,
    least: int,
    user_share: float,
) -> None:
    source = FeedbackSource(liked=liked, heldout_users=share, user_records=least, user_share=user_share)
    given = entries(records)
    judged = judge(given, source)
    shuffled = random.Random(1).sample(given, len(given))
    assert judge(shuffled, source) == judged, "no order decides"

    kept = [entry for entry in given if entry.place not in judged.rules]
    parts = {split: [entry for entry in kept if judged.split(entry) == split] for split in (TRAIN, HELDOUT)}
    assert not {entry.user for entry in parts[TRAIN]} & judged.heldout
    assert not {entry.question for entry in parts[TRAIN]} & {entry.question for entry in parts[HELDOUT]}
    counts = Counter(entry.user for entry in parts[TRAIN])
    assert max(counts.values(), default=0) <= max(least, user_share * len(parts[TRAIN]))
    threads = [entry.thread for entry in kept]
    assert len(threads) == len(set(threads)), "of one thread the last alone"
    assert not any(entry.near or entry.verdict == "undecided" for entry in kept)
    places = {entry.place: entry for entry in kept}
    for entry in kept:
        if entry.verdict == "disliked":
            better = places[judged.liked[entry.place]]
            assert better.asked == entry.asked and better.chosen != entry.rejected
            assert judged.split(better) == judged.split(entry)
        if entry.verdict == "liked" and not liked:
            assert entry.place in judged.liked.values()


@given(st.lists(st.integers(0, 200), max_size=30), st.floats(0.01, 1))
def test_a_user_s_share_is_the_largest_that_is_one(counts: list[int], share: float) -> None:
    most = most_of_a_user(counts, share)
    assert most <= share * sum(min(one, most) for one in counts)
    if most < max(counts, default=0):
        assert most + 1 > share * sum(min(one, most + 1) for one in counts)


@given(st.sets(st.text(max_size=5), max_size=40), st.floats(0, 0.5))
def test_users_are_held_out_each_by_the_name_alone(users: set[str], share: float) -> None:
    found = heldout_users(users, share)
    assert found < users or not users
    more = heldout_users(users | {"somebody else"}, share)
    assert found <= more or found == frozenset()
