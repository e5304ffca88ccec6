"""Personal data by kind: what the stage found that replaces them, from the columns of its part `signals`.

Streams; memory holds the ids that are shown. Cost: one pass over a few columns of numbers.
"""

import re
from bisect import insort
from collections import Counter

import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.report.datasheet.facts import Personal, PersonalKind
from flows.report.run_data import RunData
from storage.documents import SUPERVISED
from storage.store.artifacts import Part

SIGNALS = "signals"
MOST_IDS = 20  # of one kind, and of one reason of a ledger
NAMES = {
    "email": "e-mail addresses",
    "phone": "telephone numbers",
    "ip": "public IP addresses",
    "card": "numbers of payment cards",
    "iban": "bank account numbers (IBAN)",
    "ssn": "US social security numbers",
    "secret": "keys and tokens",
}
_COLUMN = re.compile(r"([a-z]+)s_redacted")


class FirstIds:
    """The smallest few of many ids: ids are hashes, so this is a fair draw, and the same one each time."""

    def __init__(self, most: int = MOST_IDS) -> None:
        self.ids: list[str] = []
        self._most = most

    def add(self, identity: str) -> None:
        if (len(self.ids) < self._most or identity < self.ids[-1]) and identity not in self.ids:
            insort(self.ids, identity)
            del self.ids[self._most :]


def personal_data(data: RunData, stages: list[str]) -> Personal | None:
    """What was found by kind; None where no stage looks for any."""
    stage = next((one for one in stages if SIGNALS in data.artifacts[one].parts), None)
    if stage is None:
        return None
    summary, signals = data.summary(stage), data.part(stage, SIGNALS)
    found, documents, ids = _counted(signals) if signals else (Counter[str](), Counter[str](), {})
    looked_for = tuple(data.config(stage).get("redact", ()))
    kinds = []
    for kind in dict.fromkeys((*looked_for, *sorted(found))):
        column = f"{kind}s_redacted"
        kinds.append(
            PersonalKind(
                kind=kind,
                name=NAMES.get(kind, kind),
                found=found[kind] if signals else summary.get(column, 0),
                documents=documents[kind],
                replaced=summary.get(column, 0),
                in_rows=sum(summary.get(f"{part}_{column}", 0) for part in SUPERVISED),
                ids=tuple(ids[kind].ids) if kind in ids else (),
            )
        )
    return Personal(stage=stage, looked_for=looked_for, kinds=tuple(kinds))


def _counted(signals: Part) -> tuple[Counter[str], Counter[str], dict[str, FirstIds]]:
    """Of each kind the replacements, the documents that have one, and the first of these."""
    found, documents, ids = Counter[str](), Counter[str](), dict[str, FirstIds]()
    for stored in signals.files:
        with pq.ParquetFile(stored.path) as file:
            kinds = {match[1]: match[0] for name in file.schema_arrow.names if (match := _COLUMN.fullmatch(name))}
            for batch in file.iter_batches(65_536, columns=["id", *kinds.values()]):
                for kind, column in kinds.items():
                    there = pc.greater(batch[column], 0)
                    if count := pc.sum(there).as_py():
                        found[kind] += pc.sum(batch[column]).as_py()
                        documents[kind] += count
                        first = ids.setdefault(kind, FirstIds())
                        for identity in batch["id"].filter(there).to_pylist():
                            first.add(identity)
    return found, documents, ids
