"""The stage tokenizer: clean documents in, a byte-level BPE tokenizer out.

Byte-level BPE, trained on the training split only: words are counted (words.py), then merged (merges.py), as the
library `tokenizers` would, to the same file. Text is split into words first, by a
rule that llama.cpp knows by name: DeepSeek's keeps the marks of Hindi, Thai and their like inside words and makes runs
of at most three digits; GPT-2's, Llama 3's (which is GPT-4's) and Qwen's cut a word at each mark, and take any run of
digits, three at most, and one. The special tokens have the first ids. Text that a user
writes never becomes one of them: `load_tokenizer` switches that off, and special tokens are put in by id.

Files: `tokenizer.json`, and `tokenizer_config.json` with which transformers loads it as a fast tokenizer.
Cost: about .15 s for a megabyte of text and .15 ms for a token, and memory for 18 MB of distinct words (1.3 GB). A
run of letters without a break (DNA, a key) is cut into pieces in training.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from storage.canonical import fraction_of
from storage.documents import HELDOUT, TRAIN, read_rows
from storage.errors import DataError
from storage.store.artifacts import Artifact
from storage.tokens import TokenIds
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Summary
from tasks.engine.stage import stage
from tasks.shards.text_batches import batches
from tasks.tokenize.fast_encoder import byte_letters, fast_encoder
from tasks.tokenize.merges import learn_merges
from tasks.tokenize.splits import SPLITS
from tasks.tokenize.words import count_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL_TOKENS = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>")
END_OF_TEXT, USER, ASSISTANT, END = range(len(SPECIAL_TOKENS))
MASK_TOKEN = "<|mask|>"  # behind them, where words are hidden
FILL_IN_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")  # and where texts are filled in

SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)
BATCH_CHARACTERS = 1 << 20  # a batch encoded takes some 30 bytes a byte of text
FEW_CHARACTERS = 1 << 18  # so many take `tokenizers` as long as it takes to make the fast encoder
PROGRESS_BYTES = 1 << 20  # read between two words on how far it is
PIECE_CHARACTERS = 1 << 18  # a longer text is encoded in pieces of so many: 8 MiB at once take 1.1 GB
BREAK_CHARACTERS = 1 << 12  # so far before its end a piece may be cut at a break
TRAINING_CHARACTERS = 1 << 16  # a document is learned from in pieces of so many: its words are held at once

_BREAK = re.compile(r"\S(?= [^\W\d_])")


class TokenizerSection(StageConfig):
    """What a recipe can set for the stage tokenizer."""

    vocabulary_size: int = Field(
        4096, ge=SMALLEST_VOCABULARY, le=1 << 20, description="Tokens in the vocabulary, the special ones included."
    )
    split: Literal["deepseek-v3", "gpt-2", "llama-bpe", "qwen2"] = Field(
        "deepseek-v3",
        description="How text is split into words: with the marks of all scripts inside them and three digits at most, "
        "as GPT-2 does, as GPT-4 and Llama 3 (three digits at most), or as Qwen (digit by digit).",
    )
    longest_word_bytes: int = Field(
        1024, ge=16, le=1 << 16, description="Bytes of a word in training; a longer run without a break is cut."
    )
    min_frequency: int = Field(
        2, ge=1, le=1_000_000, description="Occurrences that a pair of tokens needs to be merged."
    )
    training_bytes: int | None = Field(
        None,
        ge=1,
        le=10**15,
        description="Bytes of training text to learn from, a fixed sample of documents; null: all.",
    )


class TokenizerConfig(TokenizerSection):
    """A vocabulary for what is to be learned of the text."""

    masked: bool = Field(False, description="Whether it has a token that stands where a word is hidden.")
    fills_in: bool = Field(False, description="Whether it has the tokens of fill-in-the-middle.")

    @property
    def special_tokens(self) -> list[str]:
        """The control tokens, in the order of their ids."""
        return [*SPECIAL_TOKENS, *([MASK_TOKEN] if self.masked else []), *(FILL_IN_TOKENS if self.fills_in else [])]


@stage(
    "tokenizer",
    parts=("tokenizer",),
    reads={"clean": ("documents",)},
    libraries=("regex", "tokenizers"),
    about="tasks.tokenize.about.TOKENIZER",
)
def train_tokenizer(config: TokenizerConfig, clean: Artifact, *, context: Context) -> Summary:
    """Learn a BPE vocabulary. Summary: vocabulary, text and words learned from, bytes per token on held-out text."""
    shards = [file.path for file in clean["documents"].files]
    documents, total_bytes, learned_bytes, said_bytes = 0, 0, 0, 0
    for row in _rows(shards, ["text", "split"]):
        documents += 1
        total_bytes += len(row["text"].encode()) if row["split"] == TRAIN else 0
    fraction = 1.0 if config.training_bytes is None else min(config.training_bytes / max(total_bytes, 1), 1.0)

    def sample() -> Iterator[str]:
        nonlocal learned_bytes, said_bytes
        for row in _rows(shards, ["id", "text", "split"]):
            if row["split"] == TRAIN and _position(row["id"]) < fraction:
                for piece in pieces(row["text"], TRAINING_CHARACTERS):
                    learned_bytes += len(piece.encode())
                    yield piece
                if learned_bytes >= said_bytes + PROGRESS_BYTES:
                    said_bytes = learned_bytes
                    context.progress(learned_bytes / 1e6, max(learned_bytes, fraction * total_bytes) / 1e6, "MB")

    words = count_words(sample(), config.split, config.longest_word_bytes)
    tokenizer = learn_of(config, words.counts)
    folder = context.part("tokenizer")
    save_tokenizer(tokenizer, folder)
    heldout = (row["text"] for row in _rows(shards, ["text", "split"]) if row["split"] == HELDOUT)
    return {
        "read": documents,
        "kept": documents,
        "dropped": 0,
        "quarantined": 0,
        "vocabulary_size": tokenizer.get_vocab_size(),
        "training_bytes": learned_bytes,
        "different_words": len(words.counts),
        "forgotten_words": words.forgotten,
        "heldout_bytes_per_token": bytes_per_token(tokenizer, heldout),
    }


def learn(config: TokenizerConfig, texts: Iterable[str]) -> "Tokenizer":
    """Train on texts; DataError where they do not hold enough different words for the vocabulary."""
    return learn_of(config, count_words(texts, config.split, config.longest_word_bytes).counts)


def learn_of(config: TokenizerConfig, words: Mapping[bytes, int]) -> "Tokenizer":
    """The tokenizer of words with their counts: the one that `tokenizers` would train, byte for byte in its file."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    special = config.special_tokens
    letters = {byte: letter for letter, byte in byte_letters().items()}
    alphabet = [bytes([byte]) for byte in sorted(letters, key=letters.__getitem__)]
    found = learn_merges(words, alphabet, config.vocabulary_size - len(special), config.min_frequency)
    tokens = ["".join(letters[byte] for byte in text) for text in found.tokens]
    reached = len(special) + len(tokens)
    if reached < config.vocabulary_size:
        raise DataError(
            f"tokenizer: the training text gives a vocabulary of {reached} tokens at most, not "
            f"{config.vocabulary_size}; collect more text or set tokenizer.vocabulary_size={reached}"
        )
    vocabulary = {token: number for number, token in enumerate([*special, *tokens])}
    merges = [(tokens[first], tokens[second]) for first, second in found.merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in SPLITS[config.split]]
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.encode_special_tokens = True
    return tokenizer


def pieces(text: str, characters: int) -> Iterator[str]:
    """A text in pieces of so many characters at most, cut before a single space that is before a letter.

    Every split in SPLITS has a border there, so the pieces have the tokens of the whole. Only where no such place is
    near the end of a piece (a run of letters, of digits, of spaces) it is cut anywhere.
    """
    start = 0
    while len(text) - start > characters:
        end = start + characters
        breaks = [found.end() for found in _BREAK.finditer(text, max(start, end - BREAK_CHARACTERS), end + 2)]
        end = breaks[-1] if breaks else end
        yield text[start:end]
        start = end
    if text[start:]:
        yield text[start:]


def save_tokenizer(tokenizer: "Tokenizer", folder: Path) -> None:
    """Write `tokenizer.json` and the `tokenizer_config.json` that transformers wants beside it."""
    end_of_text = SPECIAL_TOKENS[END_OF_TEXT]
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end_of_text,
        "eos_token": end_of_text,
        "pad_token": end_of_text,
        **({"mask_token": MASK_TOKEN} if tokenizer.token_to_id(MASK_TOKEN) is not None else {}),
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> "Tokenizer":
    """The tokenizer of a folder. Text encodes to ordinary tokens only, even where it looks like a special one."""
    return read_tokenizer(folder / "tokenizer.json")


def read_tokenizer(path: Path) -> "Tokenizer":
    """The tokenizer of a file in the form of `tokenizer.json`; DataError where it is none."""
    return _parsed(path, path.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=1)
def _parsed(path: Path, text: str) -> "Tokenizer":
    """A tokenizer, made once in a row: the library keeps some megabytes of each that was ever made."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises a bare Exception for a file that it cannot read
        raise DataError(f"{path}: not a tokenizer ({error})") from error
    tokenizer.encode_special_tokens = True
    return tokenizer


def vocabulary_size(tokenizer: "Tokenizer") -> int:
    """Ids that a model needs room for: those of open models may have gaps."""
    return 1 + max(tokenizer.get_vocab().values())


def encode(tokenizer: "Tokenizer", texts: Iterable[str]) -> Iterator[tuple[TokenIds, int]]:
    """The ids of each text, without special tokens, and its UTF-8 bytes.

    Where there is much text the fast encoder reads it, if the tokenizer has one with the same ids; for little it would
    take longer to make one.
    """
    characters = 0
    for batch in batches(texts, BATCH_CHARACTERS):
        characters += sum(map(len, batch))
        ids_of = _ids_of(tokenizer, is_much=characters > FEW_CHARACTERS)
        whole = iter(ids_of([text for text in batch if len(text) <= PIECE_CHARACTERS]))
        for text in batch:
            yield next(whole) if len(text) <= PIECE_CHARACTERS else _long_ids(ids_of, text), len(text.encode())


def _ids_of(tokenizer: "Tokenizer", is_much: bool) -> Callable[[list[str]], list[TokenIds]]:
    """What encodes texts."""
    fast = fast_encoder(tokenizer) if is_much and tokenizer.encode_special_tokens else None
    if fast is not None:
        return lambda texts: [fast.encode_ordinary(text) for text in texts]
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _long_ids(ids_of: Callable[[list[str]], list[TokenIds]], text: str) -> TokenIds:
    """The ids of a text that is encoded in pieces: memory for one, and four bytes a token."""
    import numpy as np

    alone, again, after = (list(ids) for ids in ids_of(["a", "a a", " a"]))
    marked = again == alone + alone != alone + after  # each text gets the mark of a space before it (SentencePiece)
    ids = []
    for number, piece in enumerate(pieces(text, PIECE_CHARACTERS)):
        said = piece.removeprefix(" ") if marked and number else piece
        ids.append(np.asarray(ids_of([said])[0], np.uint32))
    return np.concatenate(ids)


def text_ids(tokenizer: "Tokenizer", texts: Iterable[str]) -> list[list[int]]:
    """Ids of texts as ordinary text: `<|end|>` in them is six characters or so, never the mark."""
    tokenizer.encode_special_tokens = True
    return [list(map(int, ids)) for ids, _ in encode(tokenizer, texts)]


def token_ids(tokenizer: "Tokenizer", text: str) -> list[int]:
    """The ids of one text, without special tokens, however long it is."""
    ((ids, _),) = encode(tokenizer, [text])
    return list(map(int, ids))


def bytes_per_token(tokenizer: "Tokenizer", texts: Iterable[str]) -> float:
    """UTF-8 bytes for each token, three decimals; 0 where there is no text."""
    tokens = total = 0
    for ids, size in encode(tokenizer, texts):
        tokens += len(ids)
        total += size
    return round(total / tokens, 3) if tokens else 0.0


def _rows(shards: list[Path], columns: list[str]) -> Iterator[dict[str, str]]:
    for shard in shards:
        yield from read_rows(shard, columns)


def _position(identity: str) -> float:
    """A fixed position of a document in [0, 1): a sample of equal size has equal documents on every machine."""
    return fraction_of("tokenizer", identity)
