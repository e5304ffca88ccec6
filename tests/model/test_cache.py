"""Texts of different lengths are gone on with together as each would be alone, whoever comes and goes."""

from collections.abc import Iterator

import pytest
import torch
from small_model import SHAPE, small_model

from model.cache import KeyValueCache
from model.generate import generate
from model.transformer import Transformer

LENGTHS = (5, 1, 23, 9)
TOLERANCE = 1e-4  # of scores of size 10, in float32

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> Transformer:
    return small_model()


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 300, (length,), generator=generator).tolist() for length in LENGTHS]


def empty(rows: int) -> KeyValueCache:
    return KeyValueCache(SHAPE, rows, SHAPE.context_length, torch.device("cpu"), torch.float32)


def read(model: Transformer, cache: KeyValueCache, row: int, prompt: list[int]) -> int:
    """Read a prompt into a row of a cache; the likeliest token to follow."""
    hidden = model(torch.tensor([prompt]), cache.window(row, [0]))
    cache.lengths[row] = len(prompt)
    return int(model.logits(hidden[0, -1]).argmax())


def scores_of(model: Transformer, cache: KeyValueCache, newest: list[int]) -> torch.Tensor:
    return model.logits(model(torch.tensor(newest)[:, None], cache)[:, -1])


def whole_text(model: Transformer, ids: list[int]) -> torch.Tensor:
    """Scores of what follows a text that is read at once, without a cache."""
    return model.logits(model(torch.tensor([ids])))[0]


def alone(model: Transformer, prompt: list[int], count: int) -> list[int]:
    return list(generate(model, prompt, count))


def test_rows_of_different_lengths_say_what_each_says_alone(model: Transformer, prompts: list[list[int]]) -> None:
    cache = empty(len(prompts))
    newest = [read(model, cache, row, prompt) for row, prompt in enumerate(prompts)]
    assert tuple(cache.lengths) == LENGTHS
    said = [[token] for token in newest]
    for _ in range(19):
        newest = scores_of(model, cache, newest).argmax(dim=-1).tolist()
        for tokens, token in zip(said, newest, strict=True):
            tokens.append(token)
    assert said == [alone(model, prompt, 20) for prompt in prompts]
    assert len({tuple(tokens) for tokens in said}) == len(prompts), "else rows could be taken for each other"


def test_scores_of_several_tokens_at_once_are_those_of_whole_texts(
    model: Transformer, prompts: list[list[int]]
) -> None:
    """Each row reads the same number of further tokens, from where it stands."""
    cache = empty(len(prompts))
    for row, prompt in enumerate(prompts):
        read(model, cache, row, prompt)
    further = torch.randint(0, 300, (len(prompts), 7), generator=torch.Generator().manual_seed(2))
    together = model.logits(model(further, cache))
    for row, prompt in enumerate(prompts):
        whole = whole_text(model, [*prompt, *further[row].tolist()])[-7:]
        assert torch.allclose(together[row], whole, atol=TOLERANCE, rtol=0)


def test_rows_leave_and_others_come(model: Transformer, prompts: list[list[int]]) -> None:
    """Each waits until there is room for two, and leaves after as many tokens as its prompt's number says."""
    wanted = {0: 4, 1: 11, 2: 7, 3: 9}
    said: dict[int, list[int]] = {number: [] for number in wanted}
    waiting: Iterator[int] = iter(wanted)
    cache, going, newest = empty(2), list[int](), list[int]()
    shared = 0
    while True:
        while len(going) < 2 and (number := next(waiting, None)) is not None:
            newest.append(read(model, cache, len(going), prompts[number]))
            going.append(number)
        if not going:
            break
        for number, token in zip(going, newest, strict=True):
            said[number].append(token)
        for row in reversed(range(len(going))):
            if len(said[going[row]]) == wanted[going[row]]:
                cache.swap(row, len(going) - 1, max(cache.lengths))
                for order in (cache.lengths, going, newest):
                    order[row] = order[len(going) - 1]
                going.pop()
                newest.pop()
        if going:
            shared += len(set(cache.lengths[: len(going)])) > 1
            window = cache.window(0, cache.lengths[: len(going)])
            scores = scores_of(model, window, newest)
            cache.lengths[: len(going)] = window.lengths
            for row, number in enumerate(going):
                text = [*prompts[number], *said[number]]
                assert torch.allclose(scores[row], whole_text(model, text)[-1], atol=TOLERANCE, rtol=0)
            newest = scores.argmax(dim=-1).tolist()
    assert said == {number: alone(model, prompts[number], count) for number, count in wanted.items()}
    assert shared > 5, "most steps are taken at two positions"


def test_equal_rows_need_no_mask_of_their_own(model: Transformer, prompts: list[list[int]]) -> None:
    """A search goes on as before: positions are a slice, whichever rows are taken."""
    cache = empty(1)
    read(model, cache, 0, prompts[0])
    cache.take([0, 0, 0])
    places, mask = cache.reserve(2)
    assert mask is not None
    assert (places, tuple(mask.shape)) == (slice(5, 7), (2, 7))
    cache.advance()
    assert cache.lengths == [7, 7, 7]
    assert cache.reserve(1) == (slice(7, 8), None), "one token sees all before it"
