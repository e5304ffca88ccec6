"""Collect: files of the user's own, docstrings of installed packages and made-up text -> documents and pairs.

Nothing comes in but the config and what `observe_sources` names. Out come the parts

- documents: shards of `storage.documents.SCHEMA`, cut at slices of the sources, in order of the recipe (files,
  docstrings, synthetic), so that new documents make new shards and leave the others as they are;
- pairs, preferences, labels: supervised data, each apart, so that new preferences change no fine-tuning; none twice
  within a split, none of the held-out ones in training;
- quarantine: source, file, line, reason and beginning of every record that could not be read;
- dropped: source, file, line, address or title, and rule of the records that rules left out (dropped.py).

What users have said (feedback/) becomes pairs and preferences like any other.

Of each source, read = kept + dropped + quarantined. Records without text, such as blank rows, are dropped and counted
as empty. More than `max_bad_fraction` of the others in quarantine fails the stage, and so does a file that is cut or
damaged, of which nobody knows how much is lost, unless the source has `allow_truncated`.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storage.documents import FEEDBACK, SUPERVISED
from storage.source_hashes import hash_files
from storage.store.artifacts import Artifact, StoredFile
from tasks.collect.config import (
    ArchivedPages,
    CollectConfig,
    ConversationsSource,
    DocstringsSource,
    FilesSource,
    HubSource,
    WarcSource,
    WebSource,
    WikipediaSource,
)
from tasks.collect.discover import (
    DUMP_FORMATS,
    WARC_FORMATS,
    conversation_formats,
    discover,
    may_hold_documents,
    unread_files,
)
from tasks.collect.docstrings import SOURCE as DOCSTRINGS
from tasks.collect.docstrings import DocstringsJob, read_docstrings
from tasks.collect.feedback.config import FeedbackSource
from tasks.collect.feedback.derive import BENCHMARKS, RECORDS, FeedbackJob, read_feedback
from tasks.collect.feedback.records import write_records
from tasks.collect.files import ReadJob, read_documents
from tasks.collect.forms import StatedFields
from tasks.collect.gather import (
    Collected,
    check_source,
    check_whole,
    link_documents,
    separator_notices,
    summarize,
    write_ledgers,
)
from tasks.collect.jobs import FileJob
from tasks.collect.libraries import WARC, WIKITEXT, libraries_of, versions
from tasks.collect.observe import observe_sources
from tasks.collect.output import Splits
from tasks.collect.packages import find_package
from tasks.collect.pair_texts import write_texts
from tasks.collect.pairs import supervised_notices, write_supervised
from tasks.collect.slices import cut_slices
from tasks.collect.supervised import read_supervised
from tasks.collect.synthetic import SOURCE as SYNTHETIC
from tasks.collect.synthetic import SyntheticJob, make_synthetic
from tasks.collect.warc import WarcJob, read_warc
from tasks.collect.wikipedia import WikipediaJob, read_wikipedia
from tasks.engine.context import Context, Job, JobResult, ShardFunction, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.notices import NOTICES

_SOURCE_OF = re.compile(r"-\d{5}\.warc\.gz$")  # what the stage fetch puts behind a source's name


@stage(
    "collect",
    parts=("documents", *SUPERVISED, "quarantine", "dropped"),
    reads={"fetched": ("files",), "benchmarks": ("runs",)},
    optional=("fetched", "benchmarks"),
    observe=observe_sources,
    libraries=("pyarrow", UNICODE),  # others as far as sources need them: observe.py
    programs=("tasks.collect.pages.worker",),
    about="tasks.collect.about.COLLECT",
)
def collect(
    config: CollectConfig,
    fetched: Artifact | None = None,
    benchmarks: Artifact | None = None,
    *,
    context: Context,
) -> Summary:
    """Collect every source of the recipe. What users have said about questions of the benchmarks is left out."""
    splits = Splits(heldout_fraction=config.heldout_fraction, heldout_groups=config.heldout_groups)
    sources = [_collect_files(config, source, number, splits, context) for number, source in enumerate(config.files)]
    sources += [
        _collect_wikipedia(config, source, number, splits, context) for number, source in enumerate(config.wikipedia)
    ]
    sources += [
        _collect_warc(config, source, number, splits, fetched, context) for number, source in enumerate(config.warc)
    ]
    sources += [
        _collect_web(config, source, number, splits, fetched, context) for number, source in enumerate(config.web)
    ]
    sources += [
        _collect_hub(config, source, number, fetched, splits, context)
        for number, source in enumerate(config.huggingface)
    ]
    if config.docstrings:
        sources.append(_collect_docstrings(config, config.docstrings, splits, context))
    if config.synthetic:
        settings = config.synthetic.model_dump()
        job = SyntheticJob(**settings, splits=splits, documents_per_shard=config.documents_per_shard)
        sources.append(Collected(SYNTHETIC, context.map(make_synthetic, [Job(SYNTHETIC, job)], unit="sources")))
    sources += [
        _collect_conversations(config, source, number, splits, context)
        for number, source in enumerate(config.conversations)
    ]
    if config.feedback:
        sources.append(_collect_feedback(config, config.feedback, benchmarks, context))

    for source in sources:
        check_source(source, config.max_bad_fraction if source.max_bad_fraction is None else source.max_bad_fraction)
    shards = link_documents(sources, context)
    supervised = write_supervised(sources, context)
    write_ledgers(sources, context)
    summary = summarize(sources, shards, supervised.counts)
    if not config.document_sources:
        parts = {name: context.part(name) for name in SUPERVISED}
        summary |= write_texts(parts, context.part("documents"), config.documents_per_shard)
    separators = separator_notices(sources)
    check_whole(config, sources, summary, separators)
    notices = [*unread_files(config), *separators]
    notices += [sentence for source in sources for sentence in (*source.without_document(), *source.notices())]
    notices += supervised_notices(sources, supervised)
    return summary | ({NOTICES: notices} if notices else {})


def _collect_files(
    config: CollectConfig, source: FilesSource, number: int, splits: Splits, context: Context
) -> Collected:
    """Documents of the user's own files."""
    files = hash_files(discover(source.path, f"collect.files[{number}].path"))
    fields: dict[str, Any] = source.model_dump(include={"text_field", "separator", "score_field"})
    fields |= {"license": source.license, "lang": source.lang, "repair_unicode": source.repairs}
    jobs = _read_jobs(config, source, files, splits, fields)
    results = _map_largest_first(context, read_documents, jobs, "file groups")
    return Collected(source.name, results, source.path, f"collect.files.{number}", source.allow_truncated)


def _collect_wikipedia(
    config: CollectConfig, source: WikipediaSource, number: int, splits: Splits, context: Context
) -> Collected:
    """Articles of a dump: a job a file."""
    files = hash_files(discover(source.path, f"collect.wikipedia[{number}].path", DUMP_FORMATS))
    settings = source.model_dump(include={"lang", "license", "seconds"}) | {"libraries": versions(WIKITEXT)}
    jobs = _file_jobs(config, WikipediaJob, source.name, files, splits, settings)
    results = _map_largest_first(context, read_wikipedia, jobs, "dumps")
    return Collected(source.name, results, source.path, f"collect.wikipedia.{number}", source.allow_truncated)


def _collect_warc(
    config: CollectConfig, source: WarcSource, number: int, splits: Splits, fetched: Artifact | None, context: Context
) -> Collected:
    """Pages of web archives."""
    if source.path:
        files = hash_files(discover(source.path, f"collect.warc[{number}].path", WARC_FORMATS))
    else:
        files = _fetched_files(source.name, fetched)
    results = _read_archives(config, source.name, source, files, splits, context)
    return Collected(source.name, results, source.where, f"collect.warc.{number}", source.allow_truncated)


def _collect_web(
    config: CollectConfig, source: WebSource, number: int, splits: Splits, fetched: Artifact | None, context: Context
) -> Collected:
    """Pages of a web site that the stage fetch has brought."""
    assert fetched is not None, "a recipe with a web site has a stage that fetches it"
    files = [file for file in fetched["files"].files if _SOURCE_OF.sub("", file.name) == source.name]
    results = _read_archives(config, source.name, source, files, splits, context)
    return Collected(source.name, results, ", ".join(source.urls or source.sitemaps), f"collect.web.{number}")


def _read_archives(
    config: CollectConfig,
    name: str,
    pages: ArchivedPages,
    files: Sequence[StoredFile],
    splits: Splits,
    context: Context,
) -> list[JobResult]:
    """A job for each file of archived pages."""
    settings = pages.model_dump(include=set(ArchivedPages.model_fields)) | {"libraries": versions(WARC)}
    jobs = _file_jobs(config, WarcJob, name, files, splits, settings)
    return _map_largest_first(context, read_warc, jobs, "archives")


def _collect_hub(
    config: CollectConfig, source: HubSource, number: int, fetched: Artifact | None, splits: Splits, context: Context
) -> Collected:
    """Texts of a data set of the hub, whose files the stage fetch has brought."""
    files = _fetched_files(source.name, fetched)
    fields = source.model_dump(include={"text_field", "license", "lang"})
    jobs = _read_jobs(config, source.as_files, files, splits, fields)
    results = _map_largest_first(context, read_documents, jobs, "file groups")
    return Collected(source.name, results, source.dataset, f"collect.huggingface.{number}", source.allow_truncated)


def _fetched_files(source: str, fetched: Artifact | None) -> list[StoredFile]:
    """The files of a source that the stage fetch has brought, by their names within it."""
    assert fetched is not None, "the flow gives what it has fetched"
    folder = f"{source}/"
    return [
        StoredFile(file.name.removeprefix(folder), file.digest, file.bytes, file.path)
        for file in fetched["files"].files
        if file.name.startswith(folder)
    ]


def _file_jobs(
    config: CollectConfig,
    kind: type[WikipediaJob] | type[WarcJob],
    source: str,
    files: Sequence[StoredFile],
    splits: Splits,
    settings: dict[str, Any],
) -> list[Job]:
    """A job for each file, of sources whose files are large; `settings` are what only this kind of source has."""
    settings |= _shared_fields(config, source, splits)
    return [_job((file,), kind(names=(file.name,), **settings), source) for file in files]


def _shared_fields(config: CollectConfig, source: str, splits: Splits) -> dict[str, Any]:
    """What the jobs of every kind of source are told alike."""
    shared = config.model_dump(include={"documents_per_shard", "max_document_bytes", "max_window_bytes"})
    return shared | {"source": source, "splits": splits}


def _collect_conversations(
    config: CollectConfig, source: ConversationsSource, number: int, splits: Splits, context: Context
) -> Collected:
    """Pairs, preferences and labels of the user's own files."""
    place = f"collect.conversations.{number}"
    files = hash_files(discover(source.path, f"collect.conversations[{number}].path", conversation_formats(source)))
    form = StatedFields.model_validate(source.model_dump(include=set(StatedFields.model_fields)))
    jobs = _read_jobs(config, source, files, splits, {"form": form})
    results = _map_largest_first(context, read_supervised, jobs, "file groups")
    return Collected(source.name, results, source.path, place, source.allow_truncated, makes_documents=False)


def _collect_feedback(
    config: CollectConfig, source: FeedbackSource, benchmarks: Artifact | None, context: Context
) -> Collected:
    """Pairs and preferences of what users have said. A record that cannot be used costs itself alone: they are not the
    recipe's to fix."""
    path = context.work / RECORDS
    write_records(path)
    shared = config.model_dump(include={"documents_per_shard", "max_document_bytes"})
    files = {RECORDS: hash_files([(RECORDS, path)])[0]}
    files |= {BENCHMARKS: benchmarks["runs"].files[0]} if benchmarks else {}
    job = Job(FEEDBACK, FeedbackJob(**source.model_dump(), **shared), files)
    results = context.map(read_feedback, [job], unit="sources")
    return Collected(FEEDBACK, results, makes_documents=False, max_bad_fraction=1.0)


def _read_jobs(
    config: CollectConfig,
    source: FilesSource | ConversationsSource,
    files: Sequence[StoredFile],
    splits: Splits,
    fields: dict[str, Any],
) -> list[Job]:
    """A job for each slice of the files; `fields` are what only this kind of source has."""
    return [
        _job(
            part,
            ReadJob(
                names=tuple(file.name for file in part),
                group_field=source.group_field,
                encoding=source.encoding,
                delimiter=source.delimiter,
                quote=source.quote,
                **_shared_fields(config, source.name, splits),
                **_pages_fields(source, part),
                **fields,
            ),
            source.name,
        )
        for part in cut_slices(files, files_per_slice=config.documents_per_shard)
    ]


def _pages_fields(source: FilesSource | ConversationsSource, files: Sequence[StoredFile]) -> dict[str, Any]:
    """How the pages of a slice are read, and what decides their text; nothing for a slice without any."""
    if not isinstance(source, FilesSource):
        return {}
    pages = source.pages.model_copy(update={"repair_unicode": False})  # done for texts of every kind
    return {
        "libraries": libraries_of(source, [file.name for file in files]),
        "pages": pages if any(may_hold_documents(file.name) for file in files) else None,
    }


def _collect_docstrings(config: CollectConfig, source: DocstringsSource, splits: Splits, context: Context) -> Collected:
    """Documents and pairs of installed packages."""
    jobs: list[Job] = []
    claimed: set[Path] = set()  # distributions that install the same files (mlflow, mlflow-skinny): the first has them
    for name in source.packages:
        package = find_package(name)
        heldout = name in (*source.heldout_packages, *config.heldout_groups)
        modules = [
            StoredFile(f"{name}/{file.name}", file.digest, file.bytes, file.path)
            for file in package.files
            if file.path not in claimed
        ]
        claimed.update(file.path for file in modules)
        jobs += [
            _job(
                part,
                DocstringsJob(
                    package=name,
                    license=package.license,
                    heldout=heldout,
                    names=tuple(file.name for file in part),
                    splits=splits,
                    documents_per_shard=config.documents_per_shard,
                ),
                DOCSTRINGS,
            )
            for part in cut_slices(modules, files_per_slice=math.inf)  # a package that is added touches no other
        ]
    return Collected(DOCSTRINGS, _map_largest_first(context, read_docstrings, jobs, "module groups"))


def _job(files: Sequence[StoredFile], config: FileJob | DocstringsJob, source: str) -> Job:
    return Job(f"{source}/{files[0].name}", config, {file.name: file for file in files})


def _map_largest_first(context: Context, function: ShardFunction, jobs: Sequence[Job], unit: str) -> list[JobResult]:
    """Results in order of the jobs; the largest are started first, so that no worker waits for one at the end."""
    sizes = [sum(file.bytes for file in job.inputs.values()) for job in jobs]
    order = sorted(range(len(jobs)), key=lambda index: (-sizes[index], index))
    results = context.map(function, [jobs[index] for index in order], unit=unit)
    by_index = dict(zip(order, results, strict=True))
    return [by_index[index] for index in range(len(jobs))]
