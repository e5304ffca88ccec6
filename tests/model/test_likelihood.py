"""Scores are those of one request at a time, each token counts once, and what does not fit is said."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.generate import generate
from model.likelihood import batches, score_continuations, score_documents
from model.parallel import Workers
from model.prefixes import Group
from model.sampling import Choice, Dice, choose
from model.search import search
from model.shape import Shape
from model.transformer import Transformer
from storage.errors import DataError

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = Shape(50, 2, 32, 2, 1, 16, 48, 16)
UNIFORM = -math.log(50)


@pytest.fixture
def model() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(SHAPE).requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def uniform_model(model: Transformer) -> Transformer:
    """Every next token has probability 1/50, whatever came before."""
    model.model.embed_tokens.weight.zero_()
    return model


def requests(count: int = 40) -> list[tuple[list[int], list[int]]]:
    generator = torch.Generator().manual_seed(1)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (), generator=generator))
        return torch.randint(0, 50, (length,), generator=generator).tolist()

    return [(ids(1, 9), ids(1, 8)) for _ in range(count)]


def one_by_one(model: Transformer, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    ids = torch.tensor([context + continuation])
    scores = torch.log_softmax(model.logits(model(ids[:, :-1]))[0, len(context) - 1 :], dim=-1)
    chosen = scores[torch.arange(len(continuation)), torch.tensor(continuation)]
    return float(chosen.sum()), bool((scores.argmax(-1) == torch.tensor(continuation)).all())


@pytest.mark.parametrize(("budget", "threads"), [(8192, 1), (20, 1), (64, 3)])
def test_batched_scores_equal_those_of_one_request_at_a_time(model: Transformer, budget: int, threads: int) -> None:
    asked = requests()
    likeliest = int(model.logits(model(torch.tensor([[3, 4]])))[0, -1].argmax())
    asked.append(([3, 4], [likeliest]))
    answers = score_continuations(model, asked, token_budget=budget, workers=Workers(threads))
    for request, (nats, greedy) in zip(asked, answers, strict=True):
        expected, expected_greedy = one_by_one(model, *request)
        assert nats == pytest.approx(expected, abs=1e-4)
        assert greedy == expected_greedy
    assert answers[-1][1]


tokens = st.integers(0, 3)  # few, so that requests begin alike, continue or equal each other
request_sets = st.lists(
    st.tuples(st.lists(tokens, min_size=1, max_size=20), st.lists(tokens, min_size=1, max_size=8)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=request_sets, budget=st.sampled_from([None, 20, 64]))
def test_requests_that_begin_alike_are_scored_as_if_each_stood_alone(
    model: Transformer, asked: list[tuple[list[int], list[int]]], budget: int
) -> None:
    answers = score_continuations(model, asked, budget)
    for (context, continuation), (nats, greedy) in zip(asked, answers, strict=True):
        expected, expected_greedy = one_by_one(model, context[len(continuation) - 17 :], continuation)
        assert nats == pytest.approx(expected, abs=1e-4)
        assert greedy == expected_greedy
    assert score_continuations(model, asked, budget) == answers


def test_no_prefix_of_requests_is_forwarded_twice(model: Transformer) -> None:
    """Four answers to one question of 10 tokens, an answer that goes on, one asked twice: 10 + 3 * 2 + 3 tokens."""
    forwarded = []
    model.register_forward_pre_hook(lambda _, inputs: forwarded.append(inputs[0].numel()))
    question = list(range(10))
    answers = [[20, 21, 9], [30, 31, 9], [40, 41, 9], [11, 12, 9], [20, 21, 9], [20, 21, 22, 23, 24, 9]]
    score_continuations(model, [(question, answer) for answer in answers])
    assert sum(forwarded) == 10 + 4 * 2 + 3


def test_rows_beyond_the_context_count_by_what_their_attention_needs() -> None:
    def lengths(*tokens: int, budget: int) -> list[list[int]]:
        groups = [Group([number], [0], length) for number, length in enumerate(tokens)]
        return [[group.tokens for group in batch] for batch in batches(groups, budget, context_length=16)]

    assert lengths(4, 16, 8, 8, budget=32) == [[16, 8], [8, 4]]
    assert lengths(32, 32, 16, budget=128) == [[32, 32], [16]]
    assert lengths(100, budget=20) == [[100]]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(tokens, min_size=1, max_size=40), min_size=1, max_size=6), st.integers(1, 16))
def test_documents_that_begin_alike_are_scored_as_if_each_stood_alone(
    model: Transformer, documents: list[list[int]], stride: int
) -> None:
    together = score_documents(model, documents, stride)
    for document, nats in zip(documents, together, strict=True):
        expected, done = 0.0, 1
        while done < len(document):
            end = min(len(document), 17 if done == 1 else done + stride)
            window = document[max(0, end - 17) : end]
            expected -= one_by_one(model, window[: done - end], window[done - end :])[0]
            done = end
        assert nats == pytest.approx(expected, abs=1e-5 * len(document))


def test_a_context_that_does_not_fit_loses_its_beginning(model: Transformer) -> None:
    long, short = list(range(1, 40)), list(range(26, 40))
    scores = score_continuations(model, [(long, [1, 2, 3]), (short, [1, 2, 3])])
    assert scores[0][0] == pytest.approx(scores[1][0], abs=1e-5)
    with pytest.raises(ValueError, match="exceeds"):
        score_continuations(model, [([1], [1] * 17)])
    with pytest.raises(ValueError, match="at least one token"):
        score_continuations(model, [([], [1])])


@pytest.mark.parametrize("stride", [1, 5, 8, 16])
@pytest.mark.parametrize("length", [1, 2, 16, 17, 18, 33, 100])
def test_every_token_after_the_first_is_scored_exactly_once(
    uniform_model: Transformer, stride: int, length: int
) -> None:
    """With uniform scores the nats of a document are ln 50 a token: a token scored twice or never would show."""
    document = [7] * length
    nats = score_documents(uniform_model, [document, [1, 2]], stride)
    assert nats == pytest.approx([-UNIFORM * (length - 1), -UNIFORM], rel=1e-5)


def test_each_token_sees_at_least_the_context_that_the_stride_promises(model: Transformer) -> None:
    document = torch.randint(0, 50, (60,), generator=torch.Generator().manual_seed(2)).tolist()
    expected = 0.0
    for position in range(1, 60):  # stride 1: all of the context that there is, at each token
        seen = document[max(0, position - 16) : position]
        expected -= one_by_one(model, seen, [document[position]])[0]
    assert score_documents(model, [document], stride=1)[0] == pytest.approx(expected, abs=1e-3)
    with pytest.raises(ValueError, match="stride"):
        score_documents(model, [document], stride=17)


def test_greedy_generation_equals_the_model_read_again_for_each_token(model: Transformer) -> None:
    ids = [1, 2, 3]
    made = list(generate(model, ids, max_new_tokens=8))
    for token in made:
        assert token == int(model.logits(model(torch.tensor([ids])))[0, -1].argmax())
        ids.append(token)
    assert len(made) == 8


def test_generation_stops_at_a_stop_id_at_its_limit_and_at_the_end_of_the_context(model: Transformer) -> None:
    free = list(generate(model, [1, 2, 3], max_new_tokens=8))
    assert list(generate(model, [1, 2, 3], 8, stop_ids={free[2]})) == free[: free.index(free[2])]
    assert len(list(generate(model, [1, 2, 3], max_new_tokens=100))) == 14  # the last is made from 16 tokens
    with pytest.raises(DataError, match="16 tokens"):
        list(generate(model, [1] * 16, max_new_tokens=1))
    with pytest.raises(DataError, match="0 tokens"):
        list(generate(model, [], max_new_tokens=1))


def repeats(tokens: Sequence[int], size: int) -> bool:
    runs = [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]
    return size > 0 and len(set(runs)) < len(runs)


def answers(model: Transformer, ids: list[int], length: int, stop_ids: set[int]) -> list[tuple[float, list[int], str]]:
    """All answers of at most `length` tokens with the log-probability of each, worked out one token at a time."""
    open_ones: list[tuple[list[int], float]] = [([], 0.0)]
    ended: list[tuple[float, list[int], str]] = []
    for position in range(length):
        grown = []
        for tokens, score in open_ones:
            steps = torch.log_softmax(model.logits(model(torch.tensor([[*ids, *tokens]])))[0, -1], dim=-1).tolist()
            for token, step in enumerate(steps):
                if token in stop_ids:
                    ended.append((score + step, tokens, "stop"))
                elif position == length - 1:
                    ended.append((score + step, [*tokens, token], "length"))
                else:
                    grown.append(([*tokens, token], score + step))
        open_ones = grown
    return ended


@given(st.integers(0, 50), st.integers(1, 4), st.sets(st.integers(0, 4), max_size=2), st.integers(0, 3))
@settings(deadline=None, max_examples=25)
def test_a_search_over_all_beginnings_finds_the_likeliest_answer(
    seed: int, length: int, stop_ids: set[int], no_repeat: int
) -> None:
    torch.manual_seed(seed)
    small = Transformer(Shape(5, 1, 8, 1, 1, 8, 8, 8)).requires_grad_(False)
    for parameter in small.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    allowed = (answer for answer in answers(small, [1, 2], length, stop_ids) if not repeats(answer[1], no_repeat))
    best = max(allowed)
    assert search(small, [1, 2], length, 5**4, no_repeat, stop_ids) == (best[1], best[2])


def test_a_search_with_one_beam_is_greedy_and_ends_where_generation_ends(model: Transformer) -> None:
    free = list(generate(model, [1, 2, 3], max_new_tokens=8))
    assert search(model, [1, 2, 3], 8, 1) == (free, "length")
    assert search(model, [1, 2, 3], 8, 1, stop_ids={free[2]}) == (free[: free.index(free[2])], "stop")
    full, ending = search(model, [1, 2, 3], 100, 3)
    assert (len(full), ending) == (14, "length")
    with pytest.raises(DataError, match="16 tokens"):
        search(model, [1] * 16, 1, 2)


def test_the_same_seed_gives_the_same_text(model: Transformer) -> None:
    def made(seed: int) -> list[int]:
        return list(generate(model, [1], 12, temperature=1.0, top_p=0.9, seed=seed))

    assert made(1) == made(1)
    assert len({tuple(made(seed)) for seed in range(5)}) > 1


def test_sampling_follows_the_probabilities_within_top_p() -> None:
    """1,000 draws of p = 0.6 lie within 0.53 and 0.67 but for one case in 100,000."""
    scores = torch.log(torch.tensor([[0.1, 0.6, 0.3]]))
    dice = Dice(0)

    def draw(temperature: float, top_p: float) -> int:
        return choose(scores, [Choice(temperature, top_p)], [dice])[0]

    draws = [draw(1.0, 1.0) for _ in range(1000)]
    assert 530 < draws.count(1) < 670
    assert set(draws) == {0, 1, 2}
    assert {draw(1.0, 0.7) for _ in range(200)} == {1, 2}
    assert {draw(1.0, 0.0) for _ in range(50)} == {1}
    assert {draw(0.05, 1.0) for _ in range(50)} == {1}
