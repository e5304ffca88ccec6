"""The stage moderator: lists of words and labelled rows in, the judge out (moderator.py), and how well it judges.

In: the files that the recipe names (`collect.labels`, `moderate.categories`). Out: `moderator`, the judge's folder;
`figures` (figures.json: figures.py); `items` (items.parquet, a row for each held-out row and category); `quarantine`
(quarantine.parquet: rows that could not be read, and why).

A category learns from each source in which one of its labels is: rows with these labels are of it, the source's others
are not; what other sources say counts for nothing. Held out is a share of the groups, by a hash of their name. Memory
holds the texts of all labelled rows.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.documents import HELDOUT, split_of, write_rows
from storage.errors import DataError
from storage.listing import first_few
from storage.source_hashes import hash_files
from tasks.collect.labelled import Labelled, Unread, label_files, labelled_rows
from tasks.engine.context import Context, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.linear import fit
from tasks.moderate.classifier import row_of
from tasks.moderate.figures import figures_of
from tasks.moderate.moderator import Moderator
from tasks.moderate.section import ModeratorConfig
from tasks.moderate.wordlists import list_files
from tasks.notices import NOTICES
from tasks.wording import as_per_cent

Known = npt.NDArray[np.int8]
PLACE = "moderate."
ITEMS_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("source", "file")),
        pa.field("line", pa.int64(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("label", "category")),
        pa.field("is_of_it", pa.bool_(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("source", "file")),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


def observe_lists(config: ModeratorConfig) -> dict[str, str]:
    """`CATEGORY/words/N/FILE` and `SOURCE/FILE` -> SHA-256 of each list and file of labelled rows."""
    observed: dict[str, str] = {}
    for position, category in enumerate(config.categories):
        for number, wanted in enumerate(category.words):
            files = list_files(wanted, f"{PLACE}categories.{position}.words.{number}")
            for file in hash_files([(path.name, path) for path, _ in files]):
                observed[f"{category.name}/words/{number}/{file.name}"] = file.digest
    for number, source in enumerate(config.sources):
        for file in label_files(source, f"collect.labels[{number}]"):
            observed[f"{source.name}/{file.name}"] = file.digest
    return observed


@stage(
    "moderator",
    parts=("moderator", "figures", "items", "quarantine"),
    observe=observe_lists,
    libraries=(
        *("scikit-learn", "scipy", "numpy", "safetensors", "pyarrow", UNICODE),
        *("py3langid", "python-iso639", "phonenumbers", "publicsuffixlist"),
    ),
    about="tasks.moderate.about.MODERATOR",
)
def make_moderator(config: ModeratorConfig, *, context: Context) -> Summary:
    """Make the judge of texts from lists of words and labelled rows, and score it. Summary: rows, words, figures."""
    rows, bad = _read(config)
    write_rows(
        context.part("quarantine") / "quarantine.parquet",
        ({name: getattr(one, name) for name in QUARANTINE_SCHEMA.names} for one in bad),
        QUARANTINE_SCHEMA,
    )
    classes = classes_of(config, rows)
    heldout = np.array([split_of(row.group, config.heldout_fraction) == HELDOUT for row in rows], bool)
    training = [row for row, out in zip(rows, heldout, strict=True) if not out]
    learned = {name: known[~heldout] for name, known in classes.items()}
    _check_two_classes(learned)
    classifier = fit([row_of(row.text) for row in training], learned, config.strength) if learned else None
    moderator = Moderator.of(config, PLACE, classifier)
    moderator.write(context.part("moderator"))
    asked = [row for row, out in zip(rows, heldout, strict=True) if out]
    truth = {name: known[heldout] for name, known in classes.items()}
    scored = _score(moderator, asked, truth)
    figures = figures_of(config.categories, asked, truth, scored)
    text = json.dumps(figures, indent=1, sort_keys=True, ensure_ascii=False)
    (context.part("figures") / "figures.json").write_text(text + "\n", encoding="utf-8")
    items = (
        {name: getattr(row, name) for name in ("source", "file", "line", "label")}
        | {"category": name, "is_of_it": bool(truth[name][place]), "score": float(scored[name][place])}
        for place, row in enumerate(asked)
        for name in truth
        if truth[name][place] >= 0
    )
    write_rows(context.part("items") / "items.parquet", items, ITEMS_SCHEMA)
    return {
        "categories": len(config.categories),
        "words": sum(len(one.entries) for lists in moderator.words.values() for one in lists),
        "labelled_rows": len(rows),
        "training_rows": len(training),
        "heldout_rows": len(asked),
        "quarantined": len(bad),
        **{f"{one['name']}_f1": one["f1"] for one in figures["categories"] if one["f1"] is not None},
        **_notices(figures),
    }


def _read(config: ModeratorConfig) -> tuple[list[Labelled], list[Unread]]:
    """All rows, and those that could not be read; DataError where these are too many of a source."""
    rows: list[Labelled] = []
    bad: list[Unread] = []
    for number, source in enumerate(config.sources):
        place = f"collect.labels[{number}]"
        found = list(labelled_rows(source, place))
        good = [row for row in found if isinstance(row, Labelled)]
        unread = [row for row in found if isinstance(row, Unread)]
        if not good or len(unread) > config.max_bad_fraction * len(found):
            shown = "; ".join(first_few([f"{one.file}, line {one.line}: {one.reason}" for one in unread], 3, "rows"))
            share = as_per_cent(len(unread) / max(1, len(found)))
            raise DataError(
                f"{place}: {len(unread):,} of {len(found):,} rows cannot be read ({share}; "
                f"moderate.max_bad_fraction is {as_per_cent(config.max_bad_fraction)}): {shown or 'there are none'}"
            )
        rows += good
        bad += unread
    return rows, bad


def classes_of(config: ModeratorConfig, rows: Sequence[Labelled]) -> dict[str, Known]:
    """For each category that is learned 1 for the rows that are of it, 0 for those that are not, -1 for those of
    sources that do not have its labels. DataError for a label that no row has."""
    there: dict[str, Counter[str]] = {}
    for row in rows:
        there.setdefault(row.source, Counter())[row.label] += 1
    every = sorted({label for counts in there.values() for label in counts})
    classes = {}
    for position, category in enumerate(config.categories):
        if not category.labels:
            continue
        for label in category.labels:
            if label not in every:
                named = ", ".join(first_few(every, 10, "labels"))
                raise DataError(
                    f"moderate.categories.{position}.labels: no row has the label {label!r}. There are: {named}"
                )
        wanted = set(category.labels)
        telling = {source for source, counts in there.items() if wanted & set(counts)}
        known = [(row.label in wanted) if row.source in telling else -1 for row in rows]
        classes[category.name] = np.array(known, np.int8)
    return classes


def _check_two_classes(learned: Mapping[str, Known]) -> None:
    for name, known in learned.items():
        for kind, number in (("of it", 1), ("not of it", 0)):
            if not (known == number).any():
                raise DataError(
                    f"moderate.categories: {name}: none of its {int((known >= 0).sum()):,} training rows is {kind}, so "
                    "there is nothing to tell apart: add rows of both kinds to collect.labels"
                )


def _score(
    moderator: Moderator, rows: Sequence[Labelled], truth: Mapping[str, Known]
) -> dict[str, npt.NDArray[np.float64]]:
    verdicts = [moderator.judge(row.text).scores for row in rows]
    return {name: np.array([verdict[name] for verdict in verdicts], np.float64) for name in truth}


def _notices(figures: Mapping[str, Any]) -> Summary:
    lines = [
        f"moderator: no held-out row is of {one['name']}, so its recall is not known: raise moderate.heldout_fraction"
        for one in figures["categories"]
        if one["recall"] is None
    ]
    return {NOTICES: lines} if lines else {}
