"""The stage tokenize: clean documents and a tokenizer in, token shards out (storage/tokens.py has the format).

Document shard i gives `train-<i>` and `heldout-<i>`, as far as it holds documents of that split: the numbers of a
split can have gaps, and a new shard of documents adds files without touching others. Cost: about .4 s for a
megabyte on one core.
"""

from pathlib import Path
from typing import Any

from storage.artifacts import Artifact
from storage.documents import HELDOUT, TRAIN, read_rows
from storage.errors import DataError
from storage.tokens import write_token_meta, write_token_shard
from tasks.config import StageConfig
from tasks.context import Context, Job, Summary
from tasks.stage import stage
from tasks.tokenizer import encode, load_tokenizer


class TokenizeConfig(StageConfig):
    """Nothing to choose: documents and tokenizer decide every token."""


@stage(
    "tokenize",
    parts=("tokens",),
    reads={"clean": ("documents",), "tokenizer": ("tokenizer",)},
    libraries=("tokenizers",),
)
def tokenize(config: TokenizeConfig, clean: Artifact, tokenizer: Artifact, *, context: Context) -> Summary:
    """Encode every document. Summary: documents, tokens, bytes and bytes per token of each split."""
    vocabulary = next(file for file in tokenizer["tokenizer"].files if file.name == "tokenizer.json")
    jobs = [Job(file.name, {}, {"documents": file, "tokenizer": vocabulary}) for file in clean["documents"].files]
    folder = context.part("tokens")
    totals = dict.fromkeys(_COUNTS, 0)
    for number, result in enumerate(context.map(tokenize_shard, jobs)):
        for name, file in result.files.items():
            context.link("tokens", name.replace("-00000.", f"-{number:05d}."), file)
        for name in _COUNTS:
            totals[name] += result.summary[name]
    write_token_meta(folder, load_tokenizer(vocabulary.path.parent).get_vocab_size())
    documents = totals["train_documents"] + totals["heldout_documents"]
    if not totals["train_documents"]:
        raise DataError(
            f"tokenize: none of {documents} documents is for training; collect more groups (packages, books, sites) "
            "or hold out a smaller fraction"
        )
    return {
        "read": documents,
        "kept": documents,
        "dropped": 0,
        "quarantined": 0,
        **totals,
        **{f"{split}_bytes_per_token": _ratio(totals, split) for split in (TRAIN, HELDOUT)},
    }


_COUNTS = tuple(f"{split}_{count}" for split in (TRAIN, HELDOUT) for count in ("documents", "tokens", "bytes"))


def tokenize_shard(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write the token shards of one document shard, numbered 0; a split without documents has none."""
    tokenizer = load_tokenizer(inputs["tokenizer"].parent)
    vocabulary_size = tokenizer.get_vocab_size()
    summary: Summary = {}
    for split in (TRAIN, HELDOUT):
        rows = read_rows(inputs["documents"], columns=["text", "split"])
        encoded = list(encode(tokenizer, (row["text"] for row in rows if row["split"] == split)))
        counts = {"documents": 0, "tokens": 0, "bytes": 0}
        if encoded:
            counts = write_token_shard(out, split, 0, encoded, vocabulary_size)
        summary |= {f"{split}_{name}": count for name, count in counts.items()}
    return summary


def _ratio(totals: dict[str, int], split: str) -> float:
    """Bytes for each token of text, the document marks left out."""
    tokens = totals[f"{split}_tokens"] - totals[f"{split}_documents"]
    return round(totals[f"{split}_bytes"] / tokens, 3) if tokens else 0.0
