"""Answers to many prompts, made beside each other by the engine (model/engine.py).

Prompts are taken in groups of GROUP, the longest first, each by an engine of its own, so that groups may be dealt out
to threads: what an answer is hangs on its group alone, not on how many threads there are. The likeliest answer is the
one that the prompt has alone, but where the last digits of sums decide.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.answer.stream import Sampling, TextStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.parallel import Workers
    from model.sampling import Ending
    from model.transformer import Transformer

GROUP, ROWS = 128, 32
CACHE_BYTES = 1 << 30  # of keys and values a group


@dataclass(frozen=True, slots=True)
class Asked:
    """The ids that an answer follows, and how it is chosen."""

    ids: Sequence[int]
    sampling: Sampling


@dataclass(slots=True)
class Said:
    """An answer: its text, of how many tokens it was made (a stop id is none of them), and what ended it.

    That is `stop` (a stop id or string), or `length` (it was cut off by `max_new_tokens` or a full context).
    """

    text: str = ""
    tokens: int = 0
    ending: "Ending" = "length"


def answers(
    model: "Transformer",
    tokenizer: "Tokenizer",
    asked: Sequence[Asked],
    ends: Sequence[int],
    workers: "Workers | None" = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """The text that follows each prompt, as `answers_and_endings` has it."""
    return [said.text for said in answers_and_endings(model, tokenizer, asked, ends, workers, progress)]


def answers_and_endings(
    model: "Transformer",
    tokenizer: "Tokenizer",
    asked: Sequence[Asked],
    ends: Sequence[int],
    workers: "Workers | None" = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Said]:
    """What follows each prompt, up to its first stop string; any id of `ends` is an end.

    `progress` hears how many of all are there. DataError for a prompt that leaves no room in the context.
    """
    order = sorted(range(len(asked)), key=lambda place: -(len(asked[place].ids) + asked[place].sampling.max_new_tokens))
    groups = [order[first : first + GROUP] for first in range(0, len(order), GROUP)]

    def answer_group(group: Sequence[int]) -> list[Said]:
        return _together(model, tokenizer, [asked[place] for place in group], ends)

    found: dict[int, Said] = {}
    each: Iterator[list[Said]] = map(answer_group, groups) if workers is None else workers.stream(answer_group, groups)
    for group, said in zip(groups, each, strict=True):
        found |= zip(group, said, strict=True)
        if progress is not None:
            progress(len(found), len(asked))
    return [found[place] for place in range(len(asked))]


def _together(model: "Transformer", tokenizer: "Tokenizer", asked: Sequence[Asked], ends: Sequence[int]) -> list[Said]:
    from model.engine import Engine, Request
    from model.sampling import Choice

    capacity = min(max(len(one.ids) + one.sampling.max_new_tokens for one in asked), model.shape.context_length)
    token = 2 * model.shape.layers * model.shape.key_value_heads * model.shape.head_dim * model.compute_dtype.itemsize
    engine = Engine(model, max(1, min(ROWS, len(asked), CACHE_BYTES // (token * capacity))), capacity)
    streams, said, places = [], [Said() for _ in asked], {}
    for place, one in enumerate(asked):
        chosen = one.sampling
        choice = Choice(chosen.temperature, chosen.top_p, chosen.seed)
        request = Request(one.ids, chosen.max_new_tokens, choice, ends, beams=chosen.beams, no_repeat=chosen.no_repeat)
        engine.submit(request)
        places[request] = place
        streams.append(TextStream(tokenizer, chosen.stop))
    while engine.running or engine.waiting:
        for made in engine.step():
            place = places[made.request]
            stream, answer = streams[place], said[place]
            if stream.found:
                continue
            if made.token is not None:
                answer.text += stream.add(made.token)
                answer.tokens += 1
                if stream.found and made.ending is None:
                    engine.cancel(made.request)
            if made.ending is not None and not stream.found:
                answer.text += stream.rest()
                answer.ending = made.ending
            if stream.found:
                answer.ending = "stop"
        for _, error in engine.failed:
            raise error
    return said
