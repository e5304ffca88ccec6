"""Requests of several adapters and of none, in one engine: each is answered as by the model that its adapter is merged
into, and those of none as if there were no adapters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from small_model import small_model
from test_adapters import merged, write_adapter
from test_engine import STOPS, Answers, alone, finish, prompt

from model import engine as engine_module
from model.adapter_rows import Adapters
from model.decoding import lay_out_for_decoding
from model.engine import Engine, Request
from model.lora import LowRank
from model.sampling import Choice
from model.search import search
from model.transformer import Transformer, load_model, save_model
from storage.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = {  # of other ranks and other maps
    "low": LowRank(2, 4.0, ("q_proj", "down_proj")),
    "wide": LowRank(7, 7.0, ("v_proj", "o_proj", "up_proj")),
    "all": LowRank(4, 6.0),
}
NAMES = (None, *KINDS)
TIE = 1e-3  # of logits: what is nearer to the highest may be taken for it by rounding


class Several:
    """A model laid out for decoding with adapters beside it; the same without any; and the merged models."""

    def __init__(self, folder: Path) -> None:
        base = folder / "base"
        base.mkdir()
        save_model(small_model(), base)
        self.model, self.plain = load_model(base), load_model(base)
        for one in (self.model, self.plain):
            lay_out_for_decoding(one)
        self.adapters = Adapters(self.model, base)
        self.merged: Mapping[str | None, Transformer] = {None: load_model(base)}
        for seed, (name, kind) in enumerate(KINDS.items()):
            self.adapters.add(name, write_adapter(folder / name, base, kind, seed=100 * seed))
            self.merged = {**self.merged, name: merged(base, folder / name)}

    def engine(self, rows: int) -> Engine:
        return Engine(self.model, rows, adapters=self.adapters)

    @torch.inference_mode()
    def check(self, request: Request, answers: Answers) -> None:
        """Each token is the likeliest by the merged model after the ones before, and the end is where it must be."""
        said, ending = answers.of(request)
        model = self.merged[request.adapter]
        scores = model.logits(model(torch.tensor([[*request.ids, *said]])))[0, len(request.ids) - 1 :]
        end = [] if ending == "length" else [max(STOPS, key=lambda token: float(scores[len(said), token]))]
        for place, token in enumerate([*said, *end]):
            assert scores[place].max() - scores[place, token] < TIE, (request.adapter, place)
        assert not set(said) & set(request.stop_ids)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Several:
    return Several(tmp_path_factory.mktemp("several"))


some_requests = some.lists(
    some.tuples(
        some.sampled_from(NAMES),
        some.integers(0, 2),  # the prompt: several are equal, or begin alike
        some.integers(1, 50),  # so many of its tokens
        some.integers(1, 14),  # to be made
        some.sampled_from([1, 1, 1, 3]),  # beams
        some.integers(0, 9),  # steps before the next comes
        some.one_of(some.none(), some.none(), some.integers(0, 8)),  # steps after which it is cancelled
    ),
    min_size=2,
    max_size=9,
)


@settings(max_examples=20)
@given(asked=some_requests, rows=some.integers(2, 5), piece=some.sampled_from([5, 64]))
def test_whoever_comes_is_answered_by_the_adapter_that_was_asked(
    several: Several, asked: list[Any], rows: int, piece: int
) -> None:
    before, engine_module.READ_TOKENS = engine_module.READ_TOKENS, piece
    try:
        engine, answers, whole = several.engine(rows), Answers(), list[Request]()
        cancelled, clock = list[tuple[int, Request]](), 0
        for name, seed, length, most, beams, pause, patience in asked:
            request = Request(prompt(seed, 50)[:length], most, stop_ids=STOPS, adapter=name, beams=beams)
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
                clock += 1
        for _, one in cancelled:
            engine.cancel(one)
        finish(engine, answers)
    finally:
        engine_module.READ_TOKENS = before
    for request in whole:
        if request.beams == 1:
            several.check(request, answers)
        else:
            model = several.merged[request.adapter]
            assert answers.of(request) == search(model, request.ids, request.most, request.beams, 0, STOPS)


def test_they_say_different_things(several: Several) -> None:
    """Else nothing here would tell one from the other."""
    requests = [Request(prompt(1, 12), 10, adapter=name) for name in NAMES]
    engine = several.engine(4)
    for request in requests:
        engine.submit(request)
    answers = finish(engine, Answers())
    assert len({tuple(answers.of(request)[0]) for request in requests}) == len(NAMES)


def test_those_of_none_are_answered_as_if_no_adapter_were_there(several: Several) -> None:
    """To the last bit: log-probabilities are equal, not near, in a batch of the same size."""
    names = [None, "all", None, "low", "wide", None]
    draws = Choice(1.0, 0.9, 3)
    made = {}
    for engine, adapters in ((several.engine(6), names), (Engine(several.plain, 6), [None] * 6)):
        asked = [Request(prompt(place, 9), 12, draws, likeliest=2, adapter=name) for place, name in enumerate(adapters)]
        for request in asked:
            engine.submit(request)
        steps = [one for _ in range(12) for one in engine.step()]
        made[engine] = [
            [(one.token, one.log_probability, one.likeliest) for one in steps if one.request is request]
            for request in asked
        ]
    mixed, plain = made.values()
    assert [mixed[place] == plain[place] for place in range(6)] == [name is None for name in names]


def test_what_one_adapter_has_read_is_no_beginning_for_another(several: Several) -> None:
    engine, system = several.engine(6), prompt(1, 30)

    def ask(name: str | None) -> int:
        request = Request([*system, 1, 2], 6, adapter=name)
        engine.submit(request)
        several.check(request, finish(engine, Answers()))
        return request.reused

    assert [ask(name) for name in NAMES] == [0, 0, 0, 0]
    assert [ask(name) for name in NAMES] == [31, 31, 31, 31]


def test_an_adapter_that_is_not_there_is_refused(several: Several) -> None:
    engine = several.engine(1)
    with pytest.raises(ConfigError, match=r"no adapter 'other' stands beside this model\. There are: low, wide, all"):
        engine.submit(Request([1, 2], 1, adapter="other"))
    with pytest.raises(ConfigError, match="no adapter stands beside this model"):
        Engine(several.plain, 1).submit(Request([1, 2], 1, adapter="low"))
    assert (engine.running, engine.waiting) == (0, 0)


def test_a_merged_model_says_the_same_to_the_last_token(several: Several) -> None:
    for name in KINDS:
        request = Request(prompt(2, 20), 25, stop_ids=STOPS, adapter=name)
        engine = several.engine(1)
        engine.submit(request)
        assert finish(engine, Answers()).of(request) == alone(several.merged[name], request)
