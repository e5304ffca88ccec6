"""From the results of the jobs to the parts of the stage, its figures, and what is said of bad input."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from storage.documents import SCHEMA, read_rows, write_rows
from storage.errors import DataError
from storage.listing import first_few
from storage.store.artifacts import StoredFile
from tasks.collect.archives import LeftOut
from tasks.collect.config import CollectConfig
from tasks.collect.discover import counted, unread_files
from tasks.collect.dropped import DROPPED_SCHEMA, MOST_LISTED
from tasks.collect.output import DROPPED, ENCODING, QUARANTINE_SCHEMA, SITE_LINES
from tasks.collect.said import FOUND_AS, BadKinds, found_sentences
from tasks.engine.context import Context, JobResult, Summary
from tasks.wording import as_per_cent

LINES_SHOWN = 6  # of what a message lists; of kinds the last one counts the others
_COUNTS = ("read", "kept", "dropped", "quarantined")


@dataclass(frozen=True, slots=True)
class Collected:
    """One source with the results of its jobs; `path` as the recipe has it and `place` in the recipe, for messages."""

    name: str
    results: list[JobResult]
    path: str = ""
    place: str = ""
    allow_truncated: bool = False
    makes_documents: bool = True
    max_bad_fraction: float | None = None  # None: the recipe's

    @property
    def where(self) -> str:
        """What messages call it."""
        return self.name + (f" ({self.path})" if self.path else "")

    @property
    def fields_to_state(self) -> str:
        """The settings that name the fields of its records, for messages."""
        if self.makes_documents:
            return "text_field (or group_field)"
        return "prompt_field, answer_field, conversation_field, or text_field and label_field (or group_field)"

    def total(self, figure: str) -> int:
        return sum(result.summary[figure] for result in self.results)

    @property
    def unlisted(self) -> int:
        """How many records that rules left out are not in the ledger."""
        return sum(result.summary.get("unlisted", 0) for result in self.results)

    def reasons(self) -> dict[str, int]:
        """What was dropped by each rule, as `dropped_RULE`, and the lines that were removed from pages."""
        found: Counter[str] = Counter()
        for result in self.results:
            figures = result.summary.items()
            found.update({name: count for name, count in figures if name.startswith(DROPPED) or name == SITE_LINES})
        return dict(sorted(found.items()))

    def listed(self, what: str) -> list[str]:
        """What the jobs list under a name, in order."""
        return [line for result in self.results for line in result.summary.get(what, ())]

    def left_out(self) -> LeftOut:
        """What all jobs left out of archives."""
        whole = LeftOut()
        for result in self.results:
            whole.add(LeftOut(**result.summary.get("left_out", {})))
        return whole

    def without_document(self) -> list[str]:
        """Of a source that gives no document, a sentence with what became of its records."""
        if not self.makes_documents or self.total("kept"):
            return []
        counts = {"empty": self.total("empty")} | self.reasons() | {"bad": self.total("quarantined")}
        said = ", ".join(f"{count:,} {name.removeprefix(DROPPED)}" for name, count in counts.items() if count)
        return [f"source {self.where}: none of {self.total('read'):,} records became a document ({said})"]

    def found(self) -> Counter[str]:
        """What was found out of its files, by what was found."""
        found: Counter[str] = Counter()
        for result in self.results:
            found.update(result.summary.get("found", {}))
        return found

    def encodings(self) -> dict[str, int]:
        """Figures: files by the encoding that was found out."""
        kinds = {what.removeprefix(FOUND_AS): count for what, count in sorted(self.found().items()) if FOUND_AS in what}
        return {f"{ENCODING}{kind.replace(' by a guess', '_guessed')}": count for kind, count in kinds.items()}

    def bad_kinds(self) -> BadKinds:
        """What is wrong with its bad records."""
        kinds = BadKinds()
        for result in self.results:
            kinds.merge(result.summary.get("bad", ()))
        return kinds

    def notices(self) -> list[str]:
        """What the user should know of the files: what was found out of them, and what of them is lost."""
        said = list(found_sentences(self.name, self.found()))
        listed = self.total("listed")
        if listed:
            said.append(
                f"source {self.name}: {counted(listed, 'record')} left out of lists of files (manifest, metadata), "
                "as they hold no text"
            )
        said += self.left_out().sentences(self.name)
        if self.unlisted:
            said.append(
                f"source {self.name}: {self.unlisted:,} records that rules left out are counted and not listed: of "
                f"each file and rule the first {MOST_LISTED:,} are (llmill cat latest/collect/dropped)"
            )
        bad = self.total("quarantined")
        if bad:
            kinds = "; ".join(self.bad_kinds().sentences())
            said.append(
                f"source {self.name}: {bad:,} of {counted(self.total('read'), 'record')} set aside: {kinds} "
                "(llmill cat latest/collect/quarantine)"
            )
        return said + [f"source {self.name}: the rest of a file is lost: {line}" for line in self.listed("lost")]


def check_source(source: Collected, max_bad_fraction: float) -> None:
    """Check that nothing is lost unseen, and no more is bad than the recipe allows; raises DataError otherwise."""
    read, bad = source.total("read"), source.total("quarantined")
    assert read == source.total("kept") + source.total("dropped") + bad, source.name
    where = f"source {source.where}"
    kinds = source.bad_kinds()
    if read and source.total("without_field") == read:
        fields = sorted({name for result in source.results for name in result.summary["fields"]})
        first = kinds.first() or "no record of its lists of files holds text"
        raise DataError(
            f"{where}: {first}, nor has any other of its {read} records. They have: {', '.join(fields)}. "
            f"Set {source.fields_to_state} to one of these."
        )
    left_out = source.left_out().sentences(source.name)
    if not read and source.place:
        why = "; ".join(left_out) or "its files hold no record"
        raise DataError(f"{where}: nothing in it is read: {why}. Unpack it, or name other files.")
    lost = source.listed("lost")
    if lost and not source.allow_truncated:
        raise DataError(
            f"{where}: {counted(len(lost), 'file')} not whole, and how much is lost is unknown:\n  {_shown(lost)}\n"
            f"Fetch or pack it again, remove it, or set {source.place}.allow_truncated=true to keep what was read."
        )
    texts = read - source.total("empty") - source.total("listed")
    if read and not texts:
        raise DataError(f"{where}: all of its {read} records are empty. Set text_field to the field with the text.")
    if bad > max_bad_fraction * texts:
        raise DataError(
            f"{where}: {bad} of {texts} records are bad ({as_per_cent(bad / texts)}), "
            f"max_bad_fraction is {as_per_cent(max_bad_fraction)}:\n  {_shown(kinds.sentences())}\n"
            "Fix or remove them, or raise collect.max_bad_fraction."
        )


def separator_notices(sources: Sequence[Collected]) -> list[str]:
    """Text files in which a known mark occurs as if between documents; each sentence says what to set."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for source in sources:
        for result in source.results:
            for figure, count in result.summary.items():
                if figure.startswith("marks "):
                    counts[source.name, source.place, figure.removeprefix("marks ")] += count
    return [
        f"the mark {mark} occurs {count:,} times in the text files of source {name}, which are read as one document "
        f"each: set {place}.separator='{mark}' to read the documents between the marks"
        for (name, place, mark), count in counts.items()
    ]


def _shown(lines: Sequence[str]) -> str:
    """The first of some lines, indented, and how many more there are."""
    return "\n  ".join(first_few(lines, LINES_SHOWN))


def link_documents(sources: Sequence[Collected], context: Context) -> int:
    """Put the shards of all jobs into the part, numbered in order; returns their number."""
    shards = list(files_of(sources, "documents-"))
    for number, file in enumerate(shards):
        context.link("documents", f"{number:05d}.parquet", file)
    if not shards:  # a recipe of pairs alone
        write_rows(context.part("documents") / "00000.parquet", (), SCHEMA)
    return max(1, len(shards))


def write_ledgers(sources: Sequence[Collected], context: Context) -> None:
    """One ledger of all that was set aside, and one of all that rules left out."""
    for part, schema in (("quarantine", QUARANTINE_SCHEMA), ("dropped", DROPPED_SCHEMA)):
        write_rows(context.part(part) / f"{part}.parquet", rows_in(files_of(sources, f"{part}.")), schema)


def summarize(sources: Sequence[Collected], shards: int, supervised: dict[str, int]) -> Summary:
    """The figures of the stage: documents first, then supervised data, then each source."""
    documents = [source for source in sources if source.makes_documents]
    summary: Summary = {name: sum(source.total(name) for source in documents) for name in _COUNTS}
    for name, figure in (("bytes", "bytes"), ("documents_train", "train"), ("documents_heldout", "heldout")):
        summary[name] = sum(source.total(figure) for source in documents)
    for name in ("empty", "repaired"):
        count = sum(source.total(name) for source in documents)
        summary |= {name: count} if count else {}
    summary |= {"shards": shards, **supervised}
    summary["pairs_quarantined"] = sum(source.total("quarantined") for source in sources if not source.makes_documents)
    for source in sources:
        summary |= {f"{source.name}.{name}": source.total(name) for name in _COUNTS}
        summary |= {f"{source.name}.{name}": count for name, count in source.reasons().items()}
        summary |= {f"{source.name}.{name}": count for name, count in source.encodings().items()}
        summary |= {f"{source.name}.unlisted": source.unlisted} if source.unlisted else {}
    return summary


def check_whole(config: CollectConfig, sources: Sequence[Collected], summary: Summary, marked: Sequence[str]) -> None:
    """There is something to train on, and something to measure it by, if the recipe asks for it.

    `marked` says where separators are likely to be.
    """
    if any(source.makes_documents for source in sources):
        if not summary["kept"]:
            raise DataError(
                f"collect: no document was kept of {summary['read']} read:\n  "
                + "\n  ".join(sentence for source in sources for sentence in source.without_document())
                + "\nLook at the sources' paths, and at what their sections read (docs/sources.md)."
            )
        wanted = config.heldout_fraction or config.heldout_groups
        left_out = [line for source in sources for line in source.left_out().sentences(source.name)]
        unread = "".join(f"\n{line}" for line in (*unread_files(config), *left_out))
        if summary["kept"] == 1 and not (summary["documents_train"] and not wanted):
            parts = (
                "where one file has many documents, set collect.files[0].separator to what is between them "
                "(a mark, or '\\n\\n' to take its paragraphs for documents)"
            )
            advice = "; ".join(marked) or (parts if config.files else "")
            raise DataError(
                f"collect: 1 document was kept of {summary['read']:,} read, and one document cannot be both trained on "
                f"and held out. {f'{advice}; or give' if advice else 'Give'} more text{unread}"
            )
        if not summary["documents_train"]:
            raise DataError(
                "collect: every document is held out. Lower collect.heldout_fraction, shorten "
                f"collect.heldout_groups, or set group_field if all records share one group.{unread}"
            )
        if not summary["documents_heldout"] and wanted:
            raise DataError(
                f"collect: none of {summary['kept']} documents is held out, so nothing could be measured. Name groups "
                "in collect.heldout_groups (a text file's group is its name within the source, such as "
                f"book-3.txt), or raise collect.heldout_fraction; both at zero mean that none is wanted.{unread}"
            )


def files_of(sources: Sequence[Collected], prefix: str) -> Iterator[StoredFile]:
    """The stored files whose names begin with a prefix, in order of sources, jobs and names."""
    for source in sources:
        for result in source.results:
            yield from (result.files[name] for name in sorted(result.files) if name.startswith(prefix))


def rows_in(files: Iterator[StoredFile] | Sequence[StoredFile]) -> Iterator[dict[str, Any]]:
    """The rows of Parquet files, streamed one after the other."""
    for file in files:
        yield from read_rows(file.path)
