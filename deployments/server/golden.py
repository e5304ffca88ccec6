"""Whether an engine says what the release said when it was made: its golden prompts (tasks/answer/golden.py), asked at
the start and before each swap.

Sums are rounded otherwise by other processors, batches and number formats, so that a log-probability may differ by up
to the engine's rounding (nats), and a token where the margin of the one before it was less than twice that: each of the
two may have moved by it. What follows such a token is not compared. All else is another model, another tokenizer, or
damage. Text is compared, since other engines say nothing else.
"""

import math
from queue import SimpleQueue
from typing import TYPE_CHECKING

from deployments.server.engines.seam import AnswerEngine, Said, Written
from model.engine import Made, Request
from storage.errors import DataError
from tasks.answer.golden import GoldenPrompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tasks.answer.release import Release

BROKEN = "\ufffd"  # the beginning of a character
WARM_TOKENS, SECONDS = 4, 600.0


class GoldenError(DataError):
    """An engine says something else than its release did; to ask it again helps nothing."""


def check_answers(
    engine: AnswerEngine, release: "Release", golden: list[GoldenPrompt], rounding: float, context_length: int
) -> None:
    """Ask the golden prompts that fit the context, or without any have something said. GoldenError, or DataError where
    the engine fails."""
    asked = [one for one in golden if len(one.ids) + len(one.tokens) <= context_length]
    if not asked:
        _ask(engine, release, [release.control.start], WARM_TOKENS)
    for number, one in enumerate(asked, start=1):
        text, said, ended = _ask(engine, release, one.ids, len(one.tokens))
        why = _difference(one, text, said, ended, release, rounding)
        if why is not None:
            raise GoldenError(
                f"golden prompt {number} of {len(asked)}: {why}: another model or tokenizer, or damage; copy the "
                "release again"
            )


def check_adapter(engine: AnswerEngine, release: "Release", name: str) -> None:
    """Have an adapter say something, which has no golden prompts of its own. GoldenError where its scores are not
    finite."""
    try:
        _ask(engine, release, [release.control.start], WARM_TOKENS, name)
    except GoldenError as error:
        raise GoldenError(f"adapter {name}: {error}") from None


def _ask(
    engine: AnswerEngine, release: "Release", ids: list[int], most: int, adapter: str | None = None
) -> tuple[str, list[Said], bool]:
    """The likeliest answer: its text, its tokens, and whether it came to an end of its own."""
    heard: SimpleQueue[Made | Written | BaseException] = SimpleQueue()
    request = Request(ids, most, stop_ids=release.control.ends, likeliest=1, adapter=adapter)
    engine.submit(request, heard.put, SECONDS)
    tokens: list[int] = []
    text, said = "", list[Said]()
    while True:
        one = heard.get()
        if isinstance(one, BaseException):
            raise DataError(f"the model fails: {type(one).__name__}: {one}") from one
        if isinstance(one, Written):
            text, said = text + one.text, [*said, *one.said]
        elif one.token is not None:
            tokens.append(one.token)
            said.append(Said(str(one.token), one.log_probability))
        if not all(math.isfinite(token.log_probability) for token in said):
            raise GoldenError("the model's scores are not finite")
        if one.ending is not None:
            return text or _text(release.tokenizer, tokens), said, one.ending == "stop"


def _difference(
    golden: GoldenPrompt, text: str, said: list[Said], ended: bool, release: "Release", rounding: float
) -> str | None:
    """What is said otherwise than may be by rounding; None where nothing is."""
    same, parted = _compare(golden, text, ended, release)
    words = len(golden.tokens) - (golden.tokens[-1] in release.control.ends)
    if len(said) in (words, len(golden.tokens)):  # a piece of llama.cpp may hold several tokens
        for one, value in zip(said[: min(same, words)], golden.log_probabilities, strict=False):
            if abs(one.log_probability - value) > rounding:
                moved = abs(one.log_probability - value)
                return f"a log-probability differs by {moved:.3g} nats; rounding explains {rounding:g}"
    if parted and min(golden.margins[same:parted]) > 2 * rounding:
        return f"{text[:80]!r} is said, where the release said {golden.text[:80]!r}"
    return None


def _compare(golden: GoldenPrompt, text: str, ended: bool, release: "Release") -> tuple[int, int | None]:
    """How many golden tokens an answer begins with, and where the first other one has come at the latest; None where
    there is none. A token inside a character is known once the character is whole."""
    ends = golden.tokens[-1] in release.control.ends
    words = golden.tokens[:-1] if ends else golden.tokens
    given, begun, same = text.lstrip(), "", 0  # llama.cpp's and our decoders differ in a space before a first word
    for length in range(1, len(words) + 1):
        begun = _text(release.tokenizer, words[:length]).lstrip()
        if begun.endswith(BROKEN) and length < len(words):
            continue
        if not given.startswith(begun.rstrip(BROKEN)):
            return same, length
        same = length
    if ended != ends or (ends and given.rstrip(BROKEN) != begun.rstrip(BROKEN)):
        return (len(words), len(golden.tokens)) if ends else (0, len(golden.tokens))
    return len(golden.tokens), None


def _text(tokenizer: "Tokenizer", tokens: list[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True)
