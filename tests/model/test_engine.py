"""Requests that come and go are each answered as if nobody else were there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from small_model import SHAPE, small_model

from model import engine as engine_module
from model.engine import Engine, Made, Request
from model.sampling import Choice, Dice, choose
from model.search import search
from model.transformer import Transformer
from storage.errors import DataError

STOPS = (7, 11)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> Transformer:
    return small_model()


def prompt(seed: int, length: int) -> list[int]:
    return torch.randint(0, 300, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.inference_mode()
def alone(model: Transformer, request: Request) -> tuple[list[int], str]:
    """The answer by reading the whole text anew for each token."""
    said: list[int] = []
    dice = Dice(request.choice.seed)
    while True:
        scores = model.logits(model(torch.tensor([[*request.ids, *said]])))[0, -1:]
        (token,) = choose(scores, [request.choice], [dice])
        if token in request.stop_ids:
            return said, "stop"
        said.append(token)
        if len(said) == request.most or len(request.ids) + len(said) > SHAPE.context_length:
            return said, "length"


@dataclass
class Answers:
    """What an engine has made of each request so far."""

    tokens: dict[int, list[int]] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)

    def add(self, made: Sequence[Made]) -> None:
        for one in made:
            said = self.tokens.setdefault(id(one.request), [])
            assert id(one.request) not in self.ends, "nothing comes after the end"
            if one.token is not None:
                said.append(one.token)
            if one.ending is not None:
                self.ends[id(one.request)] = one.ending

    def of(self, request: Request) -> tuple[list[int], str]:
        return self.tokens[id(request)], self.ends[id(request)]


def finish(engine: Engine, answers: Answers) -> Answers:
    while engine.running or engine.waiting:
        answers.add(engine.step())
    return answers


def test_one_of_32_is_answered_as_alone(model: Transformer) -> None:
    requests = [
        Request(
            prompt(number, 1 + number), 5 + number, Choice(0.9 * (number % 2), 0.8 + 0.1 * (number % 3), number), STOPS
        )
        for number in range(32)
    ]
    engine = Engine(model, 32)
    for request in requests:
        engine.submit(request)
    answers = finish(engine, Answers())
    expected = [alone(model, request) for request in requests]
    assert [answers.of(request) for request in requests] == expected
    assert {ending for _, ending in expected} == {"stop", "length"}


some_requests = some.lists(
    some.tuples(
        some.integers(0, 5),  # the prompt: several are equal, or begin alike
        some.integers(1, 63),  # so many of its tokens
        some.integers(1, 20),  # to be made
        some.sampled_from([0.0, 1.0]),
        some.integers(0, 12),  # steps before the next comes
        some.one_of(some.none(), some.integers(0, 8)),  # steps after which it is cancelled
        some.sampled_from(["", "a"]),
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=40)
@given(asked=some_requests, rows=some.integers(1, 4), piece=some.sampled_from([1, 5, 64]))
def test_whoever_comes_and_goes(model: Transformer, asked: list[Any], rows: int, piece: int) -> None:
    """Prompts read in pieces, rows used again, requests cancelled: the others are answered as alone."""
    before, engine_module.READ_TOKENS = engine_module.READ_TOKENS, piece
    try:
        engine, answers = Engine(model, rows), Answers()
        whole: list[Request] = []
        cancelled: list[tuple[int, Request]] = []
        clock = 0
        for seed, length, most, temperature, pause, patience, tenant in asked:
            request = Request(prompt(seed % 3, 63)[:length], most, Choice(temperature, 0.9, seed), STOPS, None, tenant)
            engine.submit(request)
            if patience is None:
                whole.append(request)
            else:
                cancelled.append((clock + patience, request))
            for _ in range(pause):
                for when, one in cancelled:
                    if when == clock:
                        engine.cancel(one)
                answers.add(engine.step())
                assert engine.running <= rows
                clock += 1
        for _, one in cancelled:
            engine.cancel(one)
        finish(engine, answers)
    finally:
        engine_module.READ_TOKENS = before
    for request in whole:
        assert answers.of(request) == alone(model, request)


def test_a_beginning_that_was_read_is_not_read_again_by_the_same_tenant(model: Transformer) -> None:
    engine = Engine(model, 3)
    system = prompt(1, 30)

    def ask(more: list[int], tenant: str) -> tuple[int, tuple[list[int], str]]:
        request = Request([*system, *more], 6, tenant=tenant)
        engine.submit(request)
        answer = finish(engine, Answers()).of(request)
        assert answer == alone(model, request)
        return request.reused, answer

    assert ask([1, 2, 3], "a")[0] == 0
    assert ask([1, 2, 3], "b")[0] == 0, "of another tenant: its time would tell what that one has asked"
    assert ask([1, 2, 3], "a")[0] == 32, "all but the last token, of which the answer is asked"
    reused, (said, _) = ask([1, 9], "a")
    assert reused == 31
    assert ask([1, 9, *said, 5], "a")[0] == 32 + len(said) - 1, "a conversation goes on; the newest token was not read"


def test_another_prompt_does_not_take_the_row_that_a_long_one_was_read_into(model: Transformer) -> None:
    engine = Engine(model, 4)
    reused = []
    for seed in (1, 2, 1, 2):
        request = Request([5, *prompt(seed, 40)], 3)
        engine.submit(request)
        assert finish(engine, Answers()).of(request) == alone(model, request)
        reused.append(request.reused)
    assert reused == [0, 1, 40, 40], "a common mark at the beginning is copied"


def test_a_search_that_fails_ends_alone(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise MemoryError("no room")
        yield

    monkeypatch.setattr(engine_module, "search_steps", broken)
    engine, answers = Engine(model, 2), Answers()
    searching, going = Request(prompt(1, 9), 12, beams=4), Request(prompt(3, 9), 12)
    engine.submit(searching)
    engine.submit(going)
    answers.add(engine.step())
    assert [(request, type(error)) for request, error in engine.failed] == [(searching, MemoryError)]
    assert finish(engine, answers).of(going) == alone(model, going)


def test_an_engine_of_little_room_ends_answers_there(model: Transformer) -> None:
    engine = Engine(model, 1, capacity=20)
    request = Request(prompt(1, 15), 50)
    engine.submit(request)
    said, ending = finish(engine, Answers()).of(request)
    assert (said, ending) == (alone(model, request)[0][:6], "length")
    with pytest.raises(DataError, match="takes 1 to 19"):
        engine.submit(Request(prompt(1, 20), 1))


def test_a_beginning_is_copied_from_an_answer_under_way(model: Transformer) -> None:
    engine, answers = Engine(model, 3), Answers()
    first = Request(prompt(1, 40), 20)
    engine.submit(first)
    for _ in range(5):
        answers.add(engine.step())
    second = Request(prompt(1, 40)[:35], 20)
    engine.submit(second)
    finish(engine, answers)
    assert second.reused == 34
    assert [answers.of(one) for one in (first, second)] == [alone(model, first), alone(model, second)]


def test_answers_go_on_while_a_long_prompt_is_read(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "READ_TOKENS", 8)
    engine, answers = Engine(model, 2), Answers()
    going, long = Request(prompt(1, 4), 30), Request(prompt(2, 50), 3)
    engine.submit(going)
    answers.add(engine.step())
    engine.submit(long)
    for _ in range(6):
        (made,) = engine.step()
        assert made.request is going
        answers.add([made])
    assert {made.request for made in engine.step()} == {going, long}


def test_a_search_goes_on_beside_the_others(model: Transformer) -> None:
    engine, answers = Engine(model, 2), Answers()
    searching = [Request(prompt(1, 9), 12, stop_ids=STOPS, beams=4, no_repeat=3), Request(prompt(2, 9), 12, beams=2)]
    going = Request(prompt(3, 9), 20)
    for request in (*searching, going):
        engine.submit(request)
    assert (engine.running, engine.waiting) == (0, 3)
    answers.add(engine.step())
    assert (engine.running, engine.waiting) == (2, 1)
    finish(engine, answers)
    assert answers.of(searching[0]) == search(model, searching[0].ids, 12, 4, 3, STOPS)
    assert answers.of(searching[1]) == search(model, searching[1].ids, 12, 2)
    assert answers.of(going) == alone(model, going)


def test_a_cancelled_search_makes_room_for_the_next(model: Transformer) -> None:
    engine, answers = Engine(model, 1), Answers()
    first, second = (Request(prompt(seed, 9), 12, beams=2) for seed in (1, 2))
    for request in (first, second):
        engine.submit(request)
    answers.add(engine.step())
    engine.cancel(first)
    finish(engine, answers)
    assert id(first) not in answers.tokens
    assert answers.of(second) == search(model, second.ids, 12, 2)


def test_log_probabilities_are_those_of_the_model(model: Transformer) -> None:
    request = Request(prompt(1, 12), 8, Choice(1.3, 0.9, 5), likeliest=3)
    engine = Engine(model, 2)
    engine.submit(Request(prompt(2, 5), 20))
    engine.submit(request)
    made = [one for _ in range(8) for one in engine.step() if one.request is request]
    text = [*request.ids, *(one.token for one in made)]
    whole = torch.log_softmax(model.logits(model(torch.tensor([text])))[0], dim=-1)
    for place, one in enumerate(made, len(request.ids) - 1):
        assert one.token is not None
        assert abs(one.log_probability - float(whole[place, one.token])) < 1e-4
        top = whole[place].topk(3)
        assert [token for token, _ in one.likeliest] == top.indices.tolist()
        assert torch.allclose(torch.tensor([value for _, value in one.likeliest]), top.values, atol=1e-4)


def test_a_context_that_is_full_ends_an_answer(model: Transformer) -> None:
    request = Request(prompt(1, 60), 50)
    engine = Engine(model, 1)
    engine.submit(request)
    answer = finish(engine, Answers()).of(request)
    assert answer == alone(model, request) and len(answer[0]) == 5
    for wrong in ([], prompt(1, 64)):
        with pytest.raises(DataError, match=f"the prompt has {len(wrong)} tokens; this model takes 1 to 63"):
            engine.submit(Request(wrong, 1))
