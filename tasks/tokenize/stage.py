"""The stage tokenize: clean documents and a tokenizer in, token shards out (storage/tokens.py has the format).

Document shard i gives `train-<i>` and `heldout-<i>`, as far as it holds documents of that split: the numbers of a
split can have gaps, and a new shard of documents adds files without touching others. Canaries (canaries.py) are
planted here, after deduplication, in a training shard of their own; part `canaries` says which and how often. Texts
that the stage augment has cut are put in the order of fill-in-the-middle (fill_in.py). Cost: about .1 s for a megabyte
on one core with the fast encoder, else .5.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator

from storage.documents import HELDOUT, TRAIN, read_rows
from storage.errors import DataError
from storage.store.artifacts import Artifact
from storage.tokens import TokenIds, read_token_shard, write_token_meta, write_token_shard
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Job, Summary
from tasks.engine.stage import stage
from tasks.shards.reuse import DIGESTS, nearness, read_digests, write_digests
from tasks.tokenize.canaries import (
    CANARY_SHARD,
    PLANTED_TOKENS,
    Planted,
    affordable,
    draw_canaries,
    plantings,
    word_ids,
    write_planted,
)
from tasks.tokenize.control import mask_token, read_control
from tasks.tokenize.fill_in import cuts_in, encode_texts, fill_in_marks, text_of
from tasks.tokenize.tokenizer import load_tokenizer, vocabulary_size

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TokenizeConfig(StageConfig):
    """How many canaries are planted: documents and tokenizer decide every other token."""

    canaries: int = Field(
        32, ge=0, le=10_000, description="Canaries (random words) planted for each number of repeats; 0: none."
    )
    canary_repeats: tuple[Annotated[int, Field(ge=1, le=1_000)], ...] = Field(
        (1, 4, 16), min_length=1, max_length=8, description="Numbers of times that a canary is planted."
    )
    canary_share: float = Field(
        0.005, gt=0, le=0.5, description="Largest share of training tokens for canaries; little text gets fewer."
    )
    seed: int = Field(1337, ge=0, le=2**32 - 1, description="Seed of the canaries.")

    @field_validator("canary_repeats")
    @classmethod
    def _different(cls, repeats: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(repeats)) < len(repeats):
            raise ValueError("a number of repeats is listed twice; name each once")
        return repeats


@stage(
    "tokenize",
    parts=("tokens", "canaries"),
    reads={"clean": ("documents",), "tokenizer": ("tokenizer",), "cut": ("middles",)},
    libraries=("tiktoken", "tokenizers"),
    about="tasks.tokenize.about.TOKENIZE",
    optional=("cut",),
)
def tokenize(
    config: TokenizeConfig, clean: Artifact, tokenizer: Artifact, cut: Artifact | None = None, *, context: Context
) -> Summary:
    """Encode every document as tokens. Summary: documents, tokens, bytes and bytes per token of each split."""
    vocabulary = next(file for file in tokenizer["tokenizer"].files if file.name == "tokenizer.json")
    start = read_control(tokenizer["tokenizer"].path).start
    cuts = {file.name: file for file in cut["middles"].files} if cut is not None else {}
    jobs = []
    for file in clean["documents"].files:
        near = tuple(f"{vocabulary.digest} {one}" for one in nearness(file))
        inputs = {"documents": file, "tokenizer": vocabulary}
        inputs |= {"cuts": cuts[file.name]} if file.name in cuts else {}
        jobs.append(Job(file.name, {"start": start}, inputs, near))
    folder = context.part("tokens")
    totals = dict.fromkeys(_COUNTS, 0)
    for number, result in enumerate(context.map(tokenize_shard, jobs)):
        for name, file in result.files.items():
            if name == DIGESTS:
                continue
            context.link("tokens", name.replace("-00000.", f"-{number:05d}."), file)
        for name in _COUNTS:
            totals[name] += result.summary[name]
    documents = totals["train_documents"] + totals["heldout_documents"]
    if not totals["train_documents"]:
        raise DataError(
            f"tokenize: none of {documents} documents is for training; collect more groups (packages, books, sites) "
            "or hold out a smaller fraction"
        )
    encoder = load_tokenizer(vocabulary.path.parent)
    write_token_meta(folder, vocabulary_size(encoder), start, mask_token(vocabulary.path.parent))
    planted = plant(config, encoder, start, totals["train_tokens"], folder)
    write_planted(context.part("canaries"), planted)
    return {
        "read": documents,
        "kept": documents,
        "dropped": 0,
        "quarantined": 0,
        **totals,
        **{f"{split}_bytes_per_token": _ratio(totals, split) for split in (TRAIN, HELDOUT)},
        "canaries": sum(canary.repeats > 0 for canary in planted.canaries),
        "canary_tokens": PLANTED_TOKENS * sum(canary.repeats for canary in planted.canaries),
    }


_COUNTS = tuple(f"{split}_{count}" for split in (TRAIN, HELDOUT) for count in ("documents", "tokens", "bytes"))


def plant(config: TokenizeConfig, tokenizer: "Tokenizer", start: int, training_tokens: int, folder: Path) -> Planted:
    """Write the shard of canaries, as many as the training tokens allow, and say which they are; each after `start`."""
    count = affordable(config.canaries, config.canary_repeats, config.canary_share, training_tokens)
    words = word_ids(tokenizer)
    planted = Planted(words, draw_canaries(words, count, config.canary_repeats, config.seed))
    documents = [(ids, len(tokenizer.decode(ids).encode())) for ids in plantings(planted.canaries, config.seed)]
    if documents:
        write_token_shard(folder, TRAIN, CANARY_SHARD, documents, vocabulary_size(tokenizer), start)
    return planted


def tokenize_shard(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write the token shards of one document shard, numbered 0; a split without documents has none.

    The tokens that an earlier shard has of the same text are taken over.
    """
    tokenizer = load_tokenizer(inputs["tokenizer"].parent)
    size = vocabulary_size(tokenizer)
    known = _encoded_before(inputs)
    cuts = cuts_in(inputs.get("cuts"))
    marks = fill_in_marks(tokenizer) if cuts else None
    digests: list[bytes] = []
    summary: Summary = {}
    for split in (TRAIN, HELDOUT):
        rows = read_rows(inputs["documents"], columns=["id", "text", "split"])
        texts = [text_of(row, cuts) for row in rows if row["split"] == split]
        names = [text.digest for text in texts]
        unknown = [text for name, text in zip(names, texts, strict=True) if name not in known]
        new = encode_texts(tokenizer, unknown, marks)
        counts = {"documents": 0, "tokens": 0, "bytes": 0}
        if texts:
            encoded = (known.get(name) or next(new) for name in names)
            counts = write_token_shard(out, split, 0, encoded, size, config["start"])
        digests += names
        summary |= {f"{split}_{name}": count for name, count in counts.items()}
    write_digests(out, digests)
    return summary


def _encoded_before(inputs: Mapping[str, Path]) -> dict[bytes, tuple[TokenIds, int]]:
    """What an earlier shard has, by the digest of the text: ids without the document mark, and UTF-8 bytes."""
    documents = [
        (tokens[1:], size)
        for split in (TRAIN, HELDOUT)
        if f"reused/{split}-00000.tokens.npy" in inputs
        for tokens, size in read_token_shard(
            inputs[f"reused/{split}-00000.tokens.npy"], inputs[f"reused/{split}-00000.documents.npy"]
        )
    ]
    names = read_digests(inputs[f"reused/{DIGESTS}"]) if f"reused/{DIGESTS}" in inputs else []
    return dict(zip(names, documents, strict=True))


def _ratio(totals: dict[str, int], split: str) -> float:
    """Bytes for each token of text, the document marks left out."""
    tokens = totals[f"{split}_tokens"] - totals[f"{split}_documents"]
    return round(totals[f"{split}_bytes"] / tokens, 3) if tokens else 0.0
