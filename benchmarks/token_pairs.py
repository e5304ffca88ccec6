"""Texts told apart by tokens and their pairs alone, beside baselines: `python -m benchmarks.token_pairs FOLDER`.

FOLDER holds a folder of text files a class. Each text is held out once, in five folds of the texts, which `--seeds N`
shuffle anew; tokenizer and weights are learned from the other four. The last line of a seed is the difference from the
best baseline, with the paired 95 % interval over texts; the last of all is that of each text's mean over the seeds.
"""

import argparse
import random
from pathlib import Path

import numpy as np

from tasks.classify.figures import best_baseline, linear_baselines
from tasks.classify.token_pairs import Numbers, TokenPairs
from tasks.statistics.compare import Answers, compare
from tasks.tokenize.tokenizer import TokenizerConfig, learn, text_ids

FOLDS = 5
OURS = "tokens and pairs"


def main() -> None:
    """Read, shuffle, tell apart, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vocabulary", type=int, default=8192)
    options = parser.parse_args()
    files = sorted(options.folder.glob("*/*"))
    names = sorted({file.parent.name for file in files})
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    true = np.array([names.index(file.parent.name) for file in files])
    ours, best = np.zeros(len(texts)), np.zeros(len(texts))
    for seed in range(options.seeds):
        said = told_apart(texts, true, len(names), seed, options.vocabulary)
        mine = said.pop(OURS)
        beside = said[best_baseline(true, said)]
        for name, one in {OURS: mine, **said}.items():
            print(f"seed {seed}: {name} {(one == true).mean():.4f}")
        show(f"seed {seed}", (mine == true).astype(float), (beside == true).astype(float))
        ours += (mine == true) / options.seeds
        best += (beside == true) / options.seeds
    show("all seeds", ours, best)


def told_apart(texts: list[str], true: Numbers, classes: int, seed: int, vocabulary: int) -> dict[str, Numbers]:
    """The classes (texts,) that each way gives to texts, every one held out once."""
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    found: dict[str, Numbers] = {}
    for fold in range(FOLDS):
        asked = np.array(order[fold::FOLDS])
        learned = np.setdiff1d(order, asked)
        training, heldout = ([texts[place] for place in places] for places in (learned, asked))
        tokenizer = learn(TokenizerConfig(vocabulary_size=vocabulary), training)
        pairs = TokenPairs.fit(text_ids(tokenizer, training), true[learned], classes)
        said = {OURS: pairs.scores(text_ids(tokenizer, heldout)).argmax(axis=1)}
        for name, one in (said | linear_baselines(training, true[learned], heldout)).items():
            found.setdefault(name, np.empty(len(texts), np.int64))[asked] = one
    return found


def show(name: str, ours: np.ndarray, others: np.ndarray) -> None:
    """A difference and its interval, over the shares of texts that are told rightly."""
    ones = np.ones(len(ours))
    texts = [str(place) for place in range(len(ours))]
    found = compare(Answers(others, ones), Answers(ours, ones), texts, kind="ratio", higher_is_better=True)
    between = f"({found.low:+.4f} to {found.high:+.4f})"
    print(f"{name}: {found.new:.4f} against {found.old:.4f}, {found.difference:+.4f} {between}")


if __name__ == "__main__":
    main()
