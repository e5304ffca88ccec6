"""Fill-in-the-middle as token ids: a text that is cut in three, its middle last (Bavarian et al. 2022).

    <|fim_prefix|> prefix <|fim_suffix|> suffix <|fim_middle|> middle      (psm)
    <|fim_prefix|><|fim_suffix|> suffix <|fim_middle|> prefix middle       (spm)

The three parts are encoded each by itself, as they will be when a model is asked, and the marks are put in by id: text
that spells them stays text. Their names are those of Qwen's coders, by which llama.cpp knows them. The document mark
that follows tells a model that its middle has reached the suffix.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.parquet as pq

from storage.errors import DataError
from storage.tokens import TokenIds
from tasks.shards.reuse import DIGEST_BYTES, text_digest
from tasks.tokenize.control import special_tokens
from tasks.tokenize.tokenizer import FILL_IN_TOKENS, encode

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Marks(NamedTuple):
    """The ids that stand before each part."""

    prefix: int
    suffix: int
    middle: int


class Text(NamedTuple):
    """What is encoded as one document: `parts` is the text, or its prefix, middle and suffix; `form` is empty for a
    text as it is, else `psm` or `spm`."""

    parts: tuple[str, ...]
    form: str = ""

    @property
    def digest(self) -> bytes:
        """What its ids are known by: no two forms of a text have one digest."""
        if not self.form:
            return text_digest(self.parts[0])
        places = " ".join(str(len(part)) for part in self.parts)
        key = f"{self.form} {places}".encode()
        return hashlib.blake2b("".join(self.parts).encode(), digest_size=DIGEST_BYTES, key=key).digest()


def fill_in_marks(tokenizer: "Tokenizer") -> Marks:
    """The ids of the marks; DataError where they are no control tokens of the tokenizer."""
    known = {token: number for number, token in special_tokens(tokenizer).items()}
    if any(token not in known for token in FILL_IN_TOKENS):
        raise DataError(
            f"tokenize: augment.middle is set, and the tokenizer has no {', '.join(FILL_IN_TOKENS)}: it was learned "
            "without, or comes with another model. Leave augment.middle out, or let this recipe learn its tokenizer"
        )
    return Marks(*(known[token] for token in FILL_IN_TOKENS))


def cuts_in(path: Path | None) -> dict[str, tuple[int, int, str]]:
    """Where texts of a shard are cut, by the id of the document: middle's begin and end in characters, and the form."""
    rows = pq.read_table(path).to_pylist() if path is not None else []
    return {row["id"]: (row["first"], row["second"], row["form"]) for row in rows}


def text_of(row: Mapping[str, Any], cuts: Mapping[str, tuple[int, int, str]]) -> Text:
    """A row's text, in parts where it is cut."""
    text = row["text"]
    if row["id"] not in cuts:
        return Text((text,))
    first, second, form = cuts[row["id"]]
    return Text((text[:first], text[first:second], text[second:]), form)


def encode_texts(tokenizer: "Tokenizer", texts: Sequence[Text], marks: Marks | None) -> Iterator[tuple[TokenIds, int]]:
    """The ids of each text in its form, and the UTF-8 bytes of its parts. `marks` may be None where none is cut."""
    encoded = encode(tokenizer, (part for text in texts for part in text.parts))
    for text in texts:
        parts = [next(encoded) for _ in text.parts]
        if not text.form:
            yield parts[0]
            continue
        assert marks is not None
        prefix, middle, suffix = ([int(one) for one in ids] for ids, _ in parts)
        yield in_order(prefix, middle, suffix, text.form, marks), sum(size for _, size in parts)


def in_order(prefix: Sequence[int], middle: Sequence[int], suffix: Sequence[int], form: str, marks: Marks) -> list[int]:
    """The ids of three parts in the order of a form."""
    if form == "psm":
        return [marks.prefix, *prefix, marks.suffix, *suffix, marks.middle, *middle]
    return [marks.prefix, marks.suffix, *suffix, marks.middle, *prefix, *middle]
