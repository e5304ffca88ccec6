"""The speed of learning a vocabulary: ours beside the trainer of `tokenizers`, and rustbpe where it can be imported.

    python -m benchmarks.learning_speed CORPUS.jsonl.zst... [--megabytes 4] [--vocabulary 4096] [--split gpt-2]

Each corpus is cut to so many megabytes, and a vocabulary is learned of all. The variants run in turn, round by round,
in one process and one thread; printed are megabytes of UTF-8 a CPU-second, the best round of each, the ratio to
`tokenizers`, and whether the files are the same.
"""

import argparse
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("RAYON_NUM_THREADS", "1")

from tokenizers import Tokenizer

from benchmarks.encoding_speed import texts_of
from benchmarks.library_bpe import by_library
from tasks.tokenize.splits import PATTERNS, SPLITS
from tasks.tokenize.tokenizer import SPECIAL_TOKENS, TokenizerConfig, learn, learn_of
from tasks.tokenize.words import count_words

LIBRARY = "tokenizers"


def compare(texts: list[str], config: TokenizerConfig, rounds: int) -> None:
    """Print a line a variant."""
    size = sum(len(text.encode()) for text in texts) / 1e6
    words = count_words(texts, config.split, config.longest_word_bytes).counts
    print(f"{len(texts):,} texts, {size:.1f} MB, {len(words):,} different words")
    variants: dict[str, Callable[[], Tokenizer | None]] = {
        LIBRARY: lambda: by_library(config, texts),
        "ours": lambda: learn(config, texts),
        "of that, the merges": lambda: learn_of(config, words),
    }
    try:
        import rustbpe
    except ImportError:
        print("rustbpe is not installed")
    else:

        def by_rustbpe() -> None:
            trained = rustbpe.Tokenizer()
            trained.train_from_iterator(iter(texts), config.vocabulary_size - len(SPECIAL_TOKENS), pattern=pattern)

        # it knows no sets of characters: DeepSeek's split is its last pattern there
        pattern = SPLITS[config.split][-1] if len(SPLITS[config.split]) > 1 else PATTERNS[config.split]
        variants["rustbpe"] = by_rustbpe
    taken: dict[str, list[float]] = {}
    files: dict[str, str | None] = {}
    for _, (what, run) in itertools.product(range(rounds), variants.items()):
        used = time.process_time()
        learned = run()
        taken.setdefault(what, []).append(time.process_time() - used)
        files[what] = learned.to_str() if learned is not None else None
    for what, seconds in taken.items():
        same = "" if files[what] is None else "same file" if files[what] == files[LIBRARY] else "ANOTHER FILE"
        ratio = min(taken[LIBRARY]) / min(seconds)
        print(f"{what:22}{size / min(seconds):7.1f} MB/s{min(seconds):7.2f} s{ratio:7.2f}  {same}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="+", type=Path)
    parser.add_argument("--megabytes", type=float, default=4, help="of each corpus")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--split", choices=tuple(SPLITS), default="deepseek-v3")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    texts = [text for path in options.corpus for text in texts_of(path, int(options.megabytes * 1e6))]
    compare(texts, TokenizerConfig(vocabulary_size=options.vocabulary, split=options.split), options.rounds)


if __name__ == "__main__":
    main()
