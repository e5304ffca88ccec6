"""The ids of a `tokenizer.json` by the library tiktoken, several times as fast, where they are proved to be the same.

`tokenizers` looks for the pair of neighbours that its list of merges has first; tiktoken for the pair whose text has
the lowest rank, whichever two tokens make it up. Both do the same where

- each token but the single bytes is made by one merge, and the merges are in the order of the ids: so a token's rank
  is its merge's;
- each token's own text encodes to that token alone (asked of `tokenizers`). Between borders of tokens merges go on as
  in the text by itself, as none has crossed a border yet; so two neighbours that make up a token, when all merges
  before its own are done, are the two of its merge. For the same reason tiktoken may take a word that is a token for
  it.

Words are split by one pattern (PATTERNS in splits.py). Anything else in the file that changes ids
(a normaliser, dropout, added words) leaves it to `tokenizers`, and so does a pattern that is not in PATTERNS. That the
patterns of both libraries split alike is shown by the tests, on each character of Unicode.
"""

import functools
import itertools
import json
from typing import TYPE_CHECKING, Any

from storage.errors import DataError
from tasks.tokenize.splits import PATTERNS, split_name

if TYPE_CHECKING:
    from tiktoken import Encoding
    from tokenizers import Tokenizer


@functools.lru_cache(maxsize=2)
def fast_encoder(tokenizer: "Tokenizer") -> "Encoding | None":
    """tiktoken's encoder with the ids of a tokenizer; None where it is not sure to have the same. Costs 30 ms for 4,096
    tokens and a second for 100,000."""
    about = json.loads(tokenizer.to_str())
    ranks = _ranks(about)
    if ranks is None or not _encode_to_themselves(about, ranks):
        return None
    from tiktoken import Encoding

    return Encoding("llmill", pat_str=PATTERNS[split_name(about)], mergeable_ranks=ranks, special_tokens={})


def _ranks(about: dict[str, Any]) -> dict[bytes, int] | None:
    """The id of each text that is a token; None where the file asks for more than merges in the order of the ids."""
    model = about["model"]
    plain = all(not model.get(name) for name in _CHANGES_IDS) and not any(about.get(name) for name in _CHANGES_TEXT)
    added_words = any(not token["special"] for token in about.get("added_tokens", ()))
    if model["type"] != "BPE" or not plain or added_words or not _splits_as_known(about):
        return None
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    made = [model["vocab"].get(first + second) for first, second in merges]
    if None in made or any(one >= other for one, other in itertools.pairwise(made)):
        return None
    letters = byte_letters()
    texts = [*letters, *(first + second for first, second in merges)]
    if any(text not in model["vocab"] for text in texts):
        return None
    return {bytes(letters[letter] for letter in text): model["vocab"][text] for text in texts}


_CHANGES_IDS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
_CHANGES_TEXT = ("normalizer", "truncation", "padding")


def _splits_as_known(about: dict[str, Any]) -> bool:
    """Whether words are split by a pattern of PATTERNS, and nothing is put before them."""
    try:
        split_name(about)
    except DataError:
        return False
    cut = about["pre_tokenizer"]
    steps = cut.get("pretokenizers", (cut,))
    *splits, last = steps
    if last["type"] != "ByteLevel" or last["add_prefix_space"] or (splits and last["use_regex"]):
        return False
    return all(step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"] for step in splits)


def _encode_to_themselves(about: dict[str, Any], ranks: dict[bytes, int]) -> bool:
    """Whether the merges make each token of its own text."""
    from tokenizers import Tokenizer

    as_it_is: dict[str, Any] = {"pre_tokenizer": None, "post_processor": None, "decoder": None, "added_tokens": []}
    alone = Tokenizer.from_str(json.dumps(about | as_it_is))
    letters = {byte: letter for letter, byte in byte_letters().items()}
    texts = ["".join(letters[byte] for byte in text) for text in ranks]
    found = alone.encode_batch_fast(texts, add_special_tokens=False)
    return all(one.ids == [rank] for one, rank in zip(found, ranks.values(), strict=True))


@functools.cache
def byte_letters() -> dict[str, int]:
    """The letter that stands for each byte in the file (GPT-2's `bytes_to_unicode`)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}
