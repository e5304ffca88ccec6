"""The golden prompts of a release (tasks/answer/golden.py): what begins any text, and the prompts of its samples.

Each is answered alone, by the likeliest token each time, an end among them. Cost: GOLDEN_TOKENS passes a prompt.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.answer.chat_form import ChatForm
from tasks.answer.golden import GOLDEN_TOKENS, GoldenPrompt

if TYPE_CHECKING:
    from model.transformer import Transformer

DIGITS = 3  # of nats: the last ones differ between kinds of CPU


def golden_prompts(model: "Transformer", form: ChatForm, prompts: Sequence[Sequence[int]]) -> list[GoldenPrompt]:
    """The answers to the ids that begin a text, and to those of `prompts`."""
    from model.parallel import one_thread

    with one_thread():
        return [_golden(model, form, list(ids)) for ids in ([form.control.start], *prompts)]


def _golden(model: "Transformer", form: ChatForm, ids: list[int]) -> GoldenPrompt:
    from model.engine import Engine, Request

    engine = Engine(model, rows=1, capacity=len(ids) + GOLDEN_TOKENS)
    request = Request(ids, GOLDEN_TOKENS, likeliest=2)
    engine.submit(request)
    tokens: list[int] = []
    values: list[float] = []
    margins: list[float] = []
    while engine.running or engine.waiting:
        for made in engine.step():
            assert made.token is not None  # no id ends it
            tokens.append(made.token)
            values.append(round(made.log_probability, DIGITS))
            margins.append(round(made.likeliest[0][1] - made.likeliest[1][1], DIGITS))
            if made.token in form.control.ends:
                engine.cancel(request)
    text = form.tokenizer.decode(tokens, skip_special_tokens=True)
    return GoldenPrompt(ids=ids, tokens=tokens, text=text, log_probabilities=values, margins=margins)
