"""Text from a release, piece by piece: what `llmill generate` and `llmill chat` print.

Pieces are whole characters: a token may end inside one, which is held back until the rest of it comes. A stop string
ends the answer and is never shown, not even in part, however tokens cut it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, ValidationError

from model.shape import INT8_WEIGHTS, WEIGHTS
from storage.canonical import digest_file
from storage.errors import DataError
from tasks.tokenize.tokenizer import END, END_OF_TEXT, token_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.transformer import Transformer

SUMS = "SHA256SUMS"
GENERATION_CONFIG = "generation_config.json"
MAX_BEAMS = 64


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen and when an answer ends, beside the model's own end.

    Temperature 0 is greedy, or with several beams looks for the likeliest answer, which then comes in one piece.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    beams: int = 1
    no_repeat: int = 0  # tokens in a row that a searched answer never says twice; 0: it may


class Answer:
    """An answer while it is made: iterate over it once for its pieces of text.

    `tokens` are the ids made so far; `finish` is, once it has ended, `stop` (the model's own end, or a stop string) or
    `length` (`max_new_tokens`, or a full context). Raises DataError for a prompt that leaves no room in the context.
    """

    def __init__(
        self, model: "Transformer", tokenizer: "Tokenizer", ids: Sequence[int], sampling: Sampling = Sampling()
    ) -> None:
        self.tokens: list[int] = []
        self.finish: str | None = None
        self._model, self._tokenizer, self._ids, self._sampling = model, tokenizer, ids, sampling

    def __iter__(self) -> Iterator[str]:
        before = StopStrings(self._sampling.stop)
        for piece in self._decoded():
            yield from filter(None, [before.add(piece)])
            if before.found:
                self.finish = "stop"
                return
        yield from filter(None, [before.rest()])

    def _decoded(self) -> Iterator[str]:
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(skip_special_tokens=True)
        written = 0
        for token in self._made():
            self.tokens.append(token)
            piece = stream.step(self._tokenizer, token)
            if piece:
                written += len(piece)
                yield piece
        rest = self._tokenizer.decode(self.tokens, skip_special_tokens=True)[written:]
        if rest:  # the answer ended inside a character
            yield rest

    def _made(self) -> Iterator[int]:
        from model.generate import generate, search

        chosen, ends = self._sampling, (END_OF_TEXT, END)
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


def load_release(folder: Path, *, int8: bool = False) -> tuple["Transformer", "Tokenizer"]:
    """Model and tokenizer of a release, or of any folder with `config.json`, `tokenizer.json` and weights.

    Raises DataError where a file is missing, damaged (by the folder's SHA256SUMS), or does not fit the others.
    """
    if int8 and not (folder / INT8_WEIGHTS).is_file():
        raise DataError(f"{folder}: has no {INT8_WEIGHTS}; add int8 to release.formats of the recipe and run it again")
    names = ("config.json", "tokenizer.json", INT8_WEIGHTS if int8 else WEIGHTS)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder}: is no release: it has no {', '.join(missing)}")
    check_sums(folder, names)

    from model.int8 import load_int8
    from model.transformer import load_model
    from tasks.tokenize.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    model = load_int8(folder) if int8 else load_model(folder)
    if tokenizer.get_vocab_size() > model.shape.vocabulary_size:
        raise DataError(
            f"{folder}: its tokenizer has {tokenizer.get_vocab_size():,} tokens, its model "
            f"{model.shape.vocabulary_size:,}; they do not belong together"
        )
    return model, tokenizer


class Search(BaseModel):
    """How a release looks for an answer where nobody says otherwise: two fields of its generation_config.json."""

    num_beams: int = Field(1, ge=1, le=MAX_BEAMS, strict=True)
    no_repeat_in_answer: int = Field(0, ge=0, strict=True)  # a name of ours: transformers' counts the prompt too


def release_search(folder: Path) -> Search:
    """What generation_config.json says of it; DataError where that makes no sense."""
    path = folder / GENERATION_CONFIG
    check_sums(folder, [GENERATION_CONFIG])
    try:
        return Search.model_validate_json(path.read_bytes()) if path.is_file() else Search()
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc'])) or 'not JSON'}: {first['msg']}") from None


def check_sums(folder: Path, names: Sequence[str]) -> None:
    """Raise DataError if a file is not what the folder's SHA256SUMS says; a folder without one is taken as it is."""
    path = folder / SUMS
    if not path.is_file():
        return
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in path.read_text().splitlines())}
    for name in names:
        if name in sums and digest_file(folder / name) != sums[name]:
            raise DataError(f"{folder / name}: damaged, or changed since the release was made ({SUMS}); copy it again")


def starting_ids(tokenizer: "Tokenizer", prompt: str, *, raw: bool) -> list[int]:
    """The ids that a model goes on from: the chat form up to the answer, or the beginning of a text."""
    from tasks.answer.chat_form import prompt_ids

    return [END_OF_TEXT, *token_ids(tokenizer, prompt)] if raw else prompt_ids(tokenizer, prompt)
