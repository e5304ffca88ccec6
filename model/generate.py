"""Text, one token at a time: one request alone."""

from collections.abc import Collection, Generator, Sequence

from model.engine import Engine, Request
from model.sampling import Choice, Ending
from model.transformer import Transformer, load_model

__all__ = ["Ending", "generate", "load_model"]


def generate(
    model: Transformer,
    ids: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: Collection[int] = (),
) -> Generator[int, None, Ending]:
    """Yield the tokens that follow `ids`, until a stop id (not yielded), `max_new_tokens`, or a full context.

    The generator's value says which: `stop` for a stop id, else `length`.
    Temperature 0 takes the most likely token; otherwise the same seed gives the same tokens.
    """
    if max_new_tokens < 1:
        return "length"
    engine = Engine(model, rows=1, capacity=len(ids) + max_new_tokens)
    engine.submit(Request(ids, max_new_tokens, Choice(temperature, top_p, seed), stop_ids))
    while True:
        for made in engine.step():
            if made.token is not None:
                yield made.token
            if made.ending is not None:
                return made.ending
