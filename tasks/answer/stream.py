"""Text from a release, piece by piece: what `llmill generate` and `llmill chat` print, and a server sends.

Pieces are whole characters: a token may end inside one, which is held back until the rest of it comes. A stop string
ends the answer and is never shown, not even in part, however tokens cut it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.tokenize.control import OWN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.transformer import Transformer

BROKEN = "\ufffd"  # what bytes decode to that are no whole character
MOST_HELD = 16  # tokens that may wait for the rest of a character, which has four bytes at most


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen and when an answer ends, beside the model's own end.

    Temperature 0 is greedy, or with several beams searches for the likeliest answer, which then comes in one piece.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    beams: int = 1
    no_repeat: int = 0  # tokens in a row that a searched answer never says twice; 0: it may


class Answer:
    """An answer while it is made: iterate over it once for its pieces of text; any id of `ends` is its end.

    `tokens` are the ids made so far; `finish` is, once it has ended, `stop` (the model's own end, or a stop string) or
    `length` (`max_new_tokens`, or a full context). Raises DataError for a prompt that leaves no room in the context.
    """

    def __init__(
        self,
        model: "Transformer",
        tokenizer: "Tokenizer",
        ids: Sequence[int],
        sampling: Sampling = Sampling(),
        ends: Sequence[int] = OWN.ends,
    ) -> None:
        self.tokens: list[int] = []
        self.finish: str | None = None
        self._model, self._tokenizer, self._ids, self._sampling = model, tokenizer, ids, sampling
        self._ends = tuple(ends)

    def __iter__(self) -> Iterator[str]:
        text = TextStream(self._tokenizer, self._sampling.stop)
        for token in self._made():
            self.tokens.append(token)
            if piece := text.add(token):
                yield piece
            if text.found:
                self.finish = "stop"
                return
        if rest := text.rest():
            yield rest
            if text.found:
                self.finish = "stop"

    def _made(self) -> Iterator[int]:
        from model.generate import generate
        from model.search import search

        chosen, ends = self._sampling, self._ends
        if chosen.beams > 1:
            found, self.finish = search(
                self._model, self._ids, chosen.max_new_tokens, chosen.beams, chosen.no_repeat, ends
            )
            yield from found
            return
        self.finish = yield from generate(
            self._model,
            self._ids,
            chosen.max_new_tokens,
            chosen.temperature,
            chosen.top_p,
            chosen.seed,
            ends,
        )


class TextStream:
    """Tokens or text in, one piece at a time, and their text out, without the stop string that ends it."""

    def __init__(self, tokenizer: "Tokenizer", stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stops = tokenizer, StopStrings(stop)
        self._tokens: list[int] = []
        self._before = self._shown = 0  # where the tokens that were shown last begin, and where they end

    @property
    def found(self) -> bool:
        """Whether a stop string is complete: nothing follows."""
        return self._stops.found

    def add(self, token: int) -> str:
        """What may be shown once this token is there too.

        It is what the token adds to those that were shown last, since a tokenizer may treat the beginning of a text
        otherwise.
        """
        self._tokens.append(token)
        text = self._text(self._before)
        known = len(self._text(self._before, self._shown))
        end = len(self._tokens)
        if len(text) <= known or text.endswith(BROKEN):
            if end - self._shown < MOST_HELD:
                return ""
            end, text = self._whole(text, known)
        self._before, self._shown = self._shown, end
        return self._stops.add(text[known:])

    def add_text(self, piece: str) -> str:
        """What may be shown once this text is there too."""
        return self._stops.add(piece)

    def rest(self) -> str:
        """What was held back, once it is known that nothing follows: an answer may end inside a character."""
        rest = self._text(self._before)[len(self._text(self._before, self._shown)) :]
        shown = self._stops.add(rest)
        return shown if self.found else shown + self._stops.rest()

    def _whole(self, text: str, known: int) -> tuple[int, str]:
        """How far tokens go of which nothing that follows changes the text, and their text.

        Bytes that make no character, or tokens that show nothing, would otherwise be decoded again with each token.
        """
        for end in range(len(self._tokens) - 1, self._shown, -1):
            part = self._text(self._before, end)
            if known < len(part) < len(text) and text.startswith(part):
                return end, part
        return len(self._tokens), text

    def _text(self, start: int, end: int | None = None) -> str:
        return self._tokenizer.decode(self._tokens[start:end], skip_special_tokens=True)


class StopStrings:
    """Text on its way out, of which no part of a stop string leaves. The first one to be complete ends it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.found = False
        self._stops = tuple(filter(None, stops))
        self._held = ""

    def add(self, piece: str) -> str:
        """What may be shown after this piece: all that no stop string can begin with."""
        shown = ""
        for character in piece:
            self._held += character
            complete = [stop for stop in self._stops if self._held.endswith(stop)]
            if complete:
                self.found = True
                shown += self._held[: -len(max(complete, key=len))]
                self._held = ""
                return shown
            free = len(self._held) - self._beginning()
            shown, self._held = shown + self._held[:free], self._held[free:]
        return shown

    def rest(self) -> str:
        """What was held back, once it is known that nothing follows."""
        held, self._held = self._held, ""
        return held

    def _beginning(self) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
