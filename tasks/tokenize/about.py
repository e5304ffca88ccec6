"""What the stages tokenizer, tokenize and compression say about themselves."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from storage.documents import TRAIN
from storage.lookup import place_of
from storage.tokens import TokenSet
from tasks.engine.about import DOCUMENTS, About, Figures, MadeRun, Step, Summaries, not_about_documents, settings
from tasks.engine.reported import Section, Table
from tasks.wording import figure

_AMOUNTS = ("bytes", "tokens", "other_tokens")


def _vocabulary(config: Figures, summaries: Summaries) -> dict[str, Any]:
    return {"vocabulary_size": config["vocabulary_size"]}


def _explain_tokenizer(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    if run.part(stage, "tokenizer") is None:
        return None
    if document["split"] != TRAIN:
        return {"verdict": "not read"}
    return {"verdict": "learned from" if run.config(stage).get("training_bytes") is None else "may be in the sample"}


def _explain_tokenize(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    """Where the document's tokens lie: output shard i comes from input shard i, a file a split."""
    tokens, documents = run.part(stage, "tokens"), run.read(stage, DOCUMENTS)
    place = place_of(documents, document["id"]) if documents else None
    if tokens is None or place is None:
        return None
    split = document["split"]
    file = f"{split}-{place.shard:05d}.tokens.npy"
    names = sorted(name.name for name in tokens.files if name.name.startswith(f"{split}-") and ".tokens." in name.name)
    shard = TokenSet(tokens.path, split).shards[names.index(file)]
    start = int(shard.documents[place.number - 1, 0]) if place.number else 0
    end = int(shard.documents[place.number, 0])
    found = {"file": file, "document": place.number, "start": start, "end": end, "tokens": end - start}
    return {"verdict": "tokenized", **found}


def _words_of_tokens(step: Step) -> list[str]:
    return [
        f"{figure(step['tokens'])} tokens: {step['file']}",
        f"from {figure(step['start'])} to {figure(step['end'])}",
    ]


def _compared(run: MadeRun, stage: str) -> Section:
    """Bytes per token beside another tokenizer's: a table by source and one by language."""
    part = run.part(stage, "compression")
    if part is None:
        return Section()
    found = json.loads((part / "compression.json").read_bytes())
    return Section(tables=tuple(_table(found, by) for by in ("source", "language") if found["rows"]))


def _table(found: Mapping[str, Any], by: str) -> Table:
    totals: dict[str, Counter[str]] = {}
    for row in found["rows"]:
        totals.setdefault(row[by], Counter()).update({name: row[name] for name in _AMOUNTS})
    return Table(
        heading=f"Bytes per token by {by}, beside {found['other']}",
        columns=(by, "bytes read", "this run's", found["other"]),
        rows=tuple(
            (name, figure(total["bytes"]), _ratio(total, "tokens"), _ratio(total, "other_tokens"))
            for name, total in sorted(totals.items())
        ),
        note="Of held-out text, of each source in each language about the first million characters.",
    )


def _ratio(total: Counter[str], tokens: str) -> str:
    return figure(total["bytes"] / total[tokens]) if total[tokens] else "–"


TOKENIZER = About(
    follows=_vocabulary,
    compared=settings("vocabulary_size"),
    figures=("heldout_bytes_per_token",),
    headline={"vocabulary": "vocabulary_size"},
    explain=_explain_tokenizer,
)
TOKENIZE = About(
    data=("tokens",),
    headline={"training_documents": "train_documents", "heldout_documents": "heldout_documents"},
    explain=_explain_tokenize,
    words=_words_of_tokens,
)
COMPRESSION = About(work=None, report=_compared, explain=not_about_documents)
