"""The speed of encoding: the stage, our encoder, and `tokenizers` and tiktoken by themselves, on the same tokenizer.

    python -m benchmarks.encoding_speed CORPUS.jsonl.zst... [--megabytes 2] [--vocabulary 4096] [--split gpt-2]

Each corpus is cut to so many megabytes, and one tokenizer is learned of all. The variants run in turn, round by round,
in one process and one thread; printed are megabytes of UTF-8 a CPU-second, the best round of each, the ratio to
`tokenizers`, and whether all ids are the same.
"""

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("RAYON_NUM_THREADS", "1")

import zstandard
from tokenizers import Tokenizer

from storage.documents import TRAIN, Document, write_documents
from tasks.shards.text_batches import batches
from tasks.tokenize.fast_encoder import fast_encoder
from tasks.tokenize.splits import SPLITS
from tasks.tokenize.stage import tokenize_shard
from tasks.tokenize.tokenizer import (
    BATCH_CHARACTERS,
    TokenizerConfig,
    encode,
    learn,
    load_tokenizer,
    pieces,
    save_tokenizer,
)

PIECE_CHARACTERS = 1 << 16
LIBRARY = "tokenizers, encode_batch"
Ids = list[list[int]]


def texts_of(path: Path, most_bytes: int) -> list[str]:
    """The first texts of a corpus, those that are longer cut into pieces of so many characters."""
    found: list[str] = []
    taken = 0
    with zstandard.open(path, "rt", encoding="utf-8") as lines:
        for piece in (piece for line in lines for piece in pieces(json.loads(line)["text"], PIECE_CHARACTERS)):
            if taken >= most_bytes:
                break
            found.append(piece)
            taken += len(piece.encode())
    return found


def by_library(tokenizer: Tokenizer, texts: list[str]) -> Ids:
    done = (tokenizer.encode_batch(batch, add_special_tokens=False) for batch in batches(texts, BATCH_CHARACTERS))
    return [one.ids for encoded in done for one in encoded]


def by_stage(folder: Path, texts: list[str]) -> None:
    """Shards as in a run, Parquet to token files."""
    for number, start in enumerate(range(0, len(texts), 1_000)):
        shard, out = folder / f"{number}.parquet", folder / str(number)
        if not shard.exists():
            rows = enumerate(texts[start : start + 1_000], start)
            write_documents(shard, [Document(str(place), text, "s", "g", TRAIN) for place, text in rows])
            out.mkdir()
        tokenize_shard({"start": 0}, {"documents": shard, "tokenizer": folder / "tokenizer.json"}, out)


def compare(texts: list[str], config: TokenizerConfig, rounds: int) -> None:
    """Print a line a variant."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        used = time.process_time()
        learned = learn(config, texts)
        size = sum(len(text.encode()) for text in texts) / 1e6
        print(f"{len(texts):,} texts, {size:.1f} MB; learned from at {size / (time.process_time() - used):.1f} MB/s")
        save_tokenizer(learned, folder)
        tokenizer = load_tokenizer(folder)
        fast = fast_encoder(tokenizer)
        assert fast is not None
        by_stage(folder, texts)  # the shards that it reads
        variants: dict[str, Callable[[], Ids | None]] = {
            LIBRARY: lambda: by_library(tokenizer, texts),
            "our encoder": lambda: [list(ids) for ids, _ in encode(tokenizer, texts)],
            "tiktoken alone": lambda: [fast.encode_ordinary(text) for text in texts],
            "the stage": lambda: by_stage(folder, texts),
        }
        taken: dict[str, list[float]] = {}
        ids: dict[str, Ids | None] = {}
        for _, (what, run) in itertools.product(range(rounds), variants.items()):
            used = time.process_time()
            ids[what] = run()
            taken.setdefault(what, []).append(time.process_time() - used)
    for what, seconds in taken.items():
        same = "" if ids[what] is None else "same ids" if ids[what] == ids[LIBRARY] else "OTHER IDS"
        print(f"{what:26}{size / min(seconds):7.1f} MB/s{min(taken[LIBRARY]) / min(seconds):7.2f}  {same}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="+", type=Path)
    parser.add_argument("--megabytes", type=float, default=2, help="of each corpus")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--split", choices=tuple(SPLITS), default="gpt-2")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    texts = [text for path in options.corpus for text in texts_of(path, int(options.megabytes * 1e6))]
    compare(texts, TokenizerConfig(vocabulary_size=options.vocabulary, split=options.split), options.rounds)


if __name__ == "__main__":
    main()
