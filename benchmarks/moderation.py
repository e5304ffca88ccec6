"""How well and how fast moderation tells texts apart: `python -m benchmarks.moderation FILE --category NAME=LABEL,...`.

FILE holds labelled rows, as `collect.labels` reads them (`--text` and `--label` name their fields). A tenth of them is
held out, by a hash of the text; the others are learned from. `--words FILE` gives each category a list of words
beside, `--detectors` looks for personal data too: what a text costs then is timed. CPU time of one thread.
"""

import argparse
import time
from typing import Any

import numpy as np

from storage.documents import HELDOUT, split_of
from tasks.collect.labelled import Labelled, LabelsSource, labelled_rows
from tasks.linear import fit
from tasks.moderate.classifier import row_of
from tasks.moderate.figures import figures_of
from tasks.moderate.moderator import Moderator
from tasks.moderate.section import ModeratorConfig
from tasks.moderate.training import classes_of


def config_of(options: argparse.Namespace) -> ModeratorConfig:
    """What a recipe would say."""
    source = LabelsSource(path=options.file, text_field=options.text, label_field=options.label)
    more: dict[str, Any] = {"words": [{"path": options.words}]} if options.words else {}
    more |= {"detectors": ["email", "phone", "ip", "secret"]} if options.detectors else {}
    named = (category.partition("=") for category in options.category)
    categories = [{"name": name, "labels": labels.split(","), **more} for name, _, labels in named]
    return ModeratorConfig.model_validate({"categories": categories, "sources": [source]})


def main() -> None:
    """Learn, score, time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--category", action="append", required=True, metavar="NAME=LABEL,...")
    parser.add_argument("--text", default="auto")
    parser.add_argument("--label", default="auto")
    parser.add_argument("--words", metavar="FILE")
    parser.add_argument("--detectors", action="store_true")
    options = parser.parse_args()
    config = config_of(options)
    read = list(labelled_rows(config.sources[0], "FILE"))
    rows = [row for row in read if isinstance(row, Labelled)]
    print(f"{len(read) - len(rows)} of {len(read):,} rows cannot be read")
    heldout = np.array([split_of(row.group, config.heldout_fraction) == HELDOUT for row in rows])
    classes = classes_of(config, rows)
    training = [row.text for row, out in zip(rows, heldout, strict=True) if not out]
    asked = [row for row, out in zip(rows, heldout, strict=True) if out]
    started = time.process_time()
    classifier = fit(
        [row_of(text) for text in training], {name: known[~heldout] for name, known in classes.items()}, config.strength
    )
    print(f"{len(training):,} rows learned in {time.process_time() - started:.1f} s, {len(asked):,} held out")
    moderator = Moderator.of(config, "", classifier)
    moderator.judge("warm")
    started = time.process_time()
    verdicts = [moderator.judge(row.text).scores for row in asked]
    each = (time.process_time() - started) / len(asked)
    print(f"{each * 1000:.2f} ms a text of {sum(len(row.text) for row in asked) / len(asked):.0f} characters")
    scores = {name: np.array([verdict[name] for verdict in verdicts]) for name in classes}
    figures = figures_of(config.categories, asked, {name: known[heldout] for name, known in classes.items()}, scores)
    names = ("name", "of_it", "precision", "recall", "f1", "accuracy", "false_alarms", "best_threshold", "best_f1")
    print(*names, sep="\t")
    for one in figures["categories"]:
        print(*(f"{value:.3f}" if isinstance(value := one[name], float) else value for name in names), sep="\t")


if __name__ == "__main__":
    main()
