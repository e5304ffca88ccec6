"""Which records of what users have said are learned from, and why the others are not.

In this order, each by the records that the rules before it have left:

| rule | left out |
|---|---|
| superseded | what the same user has said of the same answer later counts |
| undecided | a vote for neither, or of two equal answers |
| near_benchmark | a text of it shares a run of words with a benchmark of the recipe (tasks/overlap.py) |
| repeated | the same was said before, by whomever |
| liked_alone, disliked_alone | a thumb up that is not learned, a thumb down: no other thumb makes it a preference |
| user_share | the user has said too much of all of it: the newest stay |
| asked_in_training | of a held-out user, about a question that is learned |

A user is held out by a hash of the name, so that nothing said by those is ever learned; where that would be all users,
it is none, since there would be nothing to learn. No order of the records decides. Memory: about 1 kB a record.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage.canonical import digest_of, fraction_of
from storage.documents import HELDOUT, TRAIN
from tasks.collect.feedback.config import FeedbackSource
from tasks.collect.feedback.records import Said, Verdict
from tasks.words import folded

SUPERSEDED, UNDECIDED, NEAR, REPEATED = "superseded", "undecided", "near_benchmark", "repeated"
LIKED_ALONE, DISLIKED_ALONE = "liked_alone", "disliked_alone"
USER_SHARE, ASKED = "user_share", "asked_in_training"
RULES = (SUPERSEDED, UNDECIDED, NEAR, REPEATED, LIKED_ALONE, DISLIKED_ALONE, USER_SHARE, ASKED)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record without its texts, of which the digests stand for them; `place` is where it is in the file."""

    place: int
    order: tuple[str, str, int]
    user: str
    thread: str
    verdict: Verdict
    asked: str
    question: str
    chosen: str
    rejected: str
    near: bool

    @classmethod
    def of(cls, place: int, said: Said, *, near: bool) -> "Entry":
        chosen, rejected = (_digest(text) if text else "" for text in (said.chosen, said.rejected))
        order = (said.time, said.name.partition(" ")[0], said.number)
        thread, asked = digest_of(said.thread), digest_of(said.asked)
        question = _digest(said.question)
        return cls(place, order, said.user, thread, said.verdict, asked, question, chosen, rejected, near)


@dataclass(frozen=True, slots=True)
class Judged:
    """`rules` has the rule of each record that is left out, by its place; `liked` the place of the liked answer that is
    better than a disliked one, by the place of that; `heldout` the users that are never learned from."""

    rules: dict[int, str]
    liked: dict[int, int]
    heldout: frozenset[str]

    def split(self, entry: Entry) -> str:
        return HELDOUT if entry.user in self.heldout else TRAIN


def judge(entries: Iterable[Entry], source: FeedbackSource) -> Judged:
    """Apply the rules."""
    ordered = sorted(entries, key=lambda entry: entry.order)
    judged = Judged({}, {}, heldout_users({entry.user for entry in ordered}, source.heldout_users))
    last = {entry.thread: entry.place for entry in ordered}
    seen: set[tuple[str, ...]] = set()
    parts: dict[str, list[Entry]] = {TRAIN: [], HELDOUT: []}
    for entry in ordered:
        split = judged.split(entry)
        said = (split, entry.asked, entry.verdict, entry.chosen, entry.rejected)
        if last[entry.thread] != entry.place:
            judged.rules[entry.place] = SUPERSEDED
        elif entry.verdict == "undecided":
            judged.rules[entry.place] = UNDECIDED
        elif entry.near:
            judged.rules[entry.place] = NEAR
        elif said in seen:
            judged.rules[entry.place] = REPEATED
        else:
            seen.add(said)
            parts[split].append(entry)
    learned = {entry.question for entry in _settled(parts[TRAIN], source, judged)}
    for entry in _settled(parts[HELDOUT], source, judged):
        if entry.question in learned:
            judged.rules[entry.place] = ASKED
    return judged


def heldout_users(users: set[str], share: float) -> frozenset[str]:
    """The users that are held out: a fixed share of all, or nobody where it would be everybody."""
    found = frozenset(user for user in users if fraction_of("feedback", user) < share)
    return frozenset() if found == users else found


def most_of_a_user(counts: Iterable[int], share: float) -> int:
    """The largest number of records a user that is no more than a share of all that are left by it; 0 where there is
    none, as where few users share what is there."""
    known = list(counts)
    low, high = 0, max(known, default=0)
    while low < high:  # what is left grows with the number, and ever slower
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle <= share * sum(min(one, middle) for one in known) else (low, middle - 1)
    return low


def _settled(entries: Sequence[Entry], source: FeedbackSource, judged: Judged) -> list[Entry]:
    """What is left of one split: each thumb makes a preference or is learned, and no user says too much.

    The one rule may break what the other has settled, so they take turns; each turn but the last leaves something out.
    """
    left = list(entries)
    while True:
        before = len(left)
        left = _without_lone_thumbs(left, source, judged)
        left = _without_excess(left, source, judged)
        if len(left) == before:
            return left


def _without_lone_thumbs(entries: Sequence[Entry], source: FeedbackSource, judged: Judged) -> list[Entry]:
    likes: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.verdict == "liked" and entry.chosen:
            likes[entry.asked].append(entry)
    liked: dict[int, int] = {}
    for entry in entries:
        judged.liked.pop(entry.place, None)
        if entry.verdict == "disliked" and entry.rejected:
            better = next((one for one in likes[entry.asked] if one.chosen != entry.rejected), None)
            liked |= {entry.place: better.place} if better else {}
    judged.liked.update(liked)
    used = {*liked, *liked.values()}
    left = []
    for entry in entries:
        learned = entry.verdict in ("correction", "vote") or (
            source.liked and entry.verdict == "liked" and entry.chosen
        )
        if learned or entry.place in used:
            left.append(entry)
        else:
            judged.rules[entry.place] = LIKED_ALONE if entry.verdict == "liked" else DISLIKED_ALONE
    return left


def _without_excess(entries: Sequence[Entry], source: FeedbackSource, judged: Judged) -> list[Entry]:
    counts = Counter(entry.user for entry in entries)
    most = max(source.user_records, most_of_a_user(counts.values(), source.user_share))
    left = []
    for entry in entries:  # the oldest first
        if counts[entry.user] > most:
            counts[entry.user] -= 1
            judged.rules[entry.place] = USER_SHARE
        else:
            left.append(entry)
    return left


def _digest(text: str) -> str:
    """Of a text without regard to case and spacing."""
    return digest_of(folded(text))
