"""From a run to the datasheet of its corpus: facts gathered, then written as one HTML page and one JSON file.

In a release it stands beside the model card. The store's own release never changes, so that is a copy of it: the
release is no reader of ledgers, whose every change would make it anew.
"""

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from flows.inspect.references import transfer_line
from flows.report.datasheet.corpus import composition, tokenized
from flows.report.datasheet.facts import Datasheet
from flows.report.datasheet.lineage import corpus_stage, missing_stages, not_in_run, stages_behind
from flows.report.datasheet.personal import personal_data
from flows.report.datasheet.questions import SECTIONS, open_questions
from flows.report.datasheet.record import builds, observed, parts, sources
from flows.report.datasheet.shown import short_text
from flows.report.datasheet.treatment import short_table, treatment
from flows.report.run_data import RunData
from flows.report.templates import style, template
from storage.canonical import digest_file
from storage.errors import ConfigError, DataError, StoreError
from storage.files import clone_or_copy, remove_tree, write_atomic
from storage.store.artifacts import Part
from storage.store.local import Store
from tasks.engine.about import DOCUMENTS

NAME = "datasheet"
MIXED, SEARCHED = "order", "dirty"  # parts: of what pretraining draws, and of what benchmarks ask and was found
ENDINGS = (".html", ".json")
WEIGHTS = "model.safetensors"


class Written(NamedTuple):
    """The two files of a datasheet."""

    html: Path
    json: Path


def datasheet(store: Store, run: Mapping[str, Any]) -> Datasheet:
    """The datasheet of a run's corpus; raises DataError where the run has none."""
    data = RunData(store, run)
    corpus = corpus_stage(data)
    stages = stages_behind(data, corpus)
    for stage in stages:
        with suppress(StoreError):  # what cannot be had is listed as missing
            store.fetch(data.artifacts[stage], transfer_line)
    held, personal = composition(data, corpus), personal_data(data, stages)
    searched = next((stage for stage in stages if SEARCHED in data.artifacts[stage].parts), "")
    mixed = data.last_with(MIXED)
    return Datasheet(
        name=short_text(str(run["recipe_name"])),
        description=short_text(data.recipe.get("release", {}).get("description", "")),
        corpus=f"{corpus}/{DOCUMENTS}",
        digest=data.artifacts[corpus][DOCUMENTS].digest,
        missing=tuple(missing_stages(data, stages)),
        not_done=tuple(not_in_run(data)),
        composition=held,
        tokens=tuple(map(short_table, tokenized(data))),
        sources=tuple(sources(data)),
        personal=personal,
        searched=searched,
        treatment=tuple(treatment(data, stage) for stage in stages),
        mix=tuple(map(short_table, data.section(mixed).tables)) if mixed else (),
        builds=tuple(builds(data, stages)),
        observed=tuple(observed(data, stages)),
        parts=tuple(parts(data, stages)),
        open_questions=open_questions(held, personal, searched),
    )


def write_datasheet(sheet: Datasheet, files: Written) -> None:
    """Write both files, each in one step; equal datasheets give equal bytes."""
    text = json.dumps(sheet.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    page = (
        template("datasheet/page.html.jinja")
        .render(**style(), sheet=sheet, sections=SECTIONS, json=files.json.name)
        .lstrip()
    )
    for path, contents in ((files.json, text), (files.html, page)):
        try:
            write_atomic(path, contents.encode())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror}); name another with --output") from None


def place_of(store: Store, run: Mapping[str, Any], output: Path | None) -> Written:
    """Where the files go: a folder, or the name of either file; by default into the home, under the name of the run."""
    if output is None:
        stem = store.home / f"{NAME}s" / run["run"]
    elif output.suffix in ENDINGS and not output.is_dir():
        stem = output.with_suffix("")
    elif output.is_file():
        raise ConfigError(f"--output {output}: is a file. Name a folder, or a file that ends with .html or .json")
    else:
        stem = output / NAME
    return Written(*(stem.with_name(stem.name + ending) for ending in ENDINGS))


# A release --------------------------------------------------------------------------------------------------------


def into_release(store: Store, run: Mapping[str, Any], sheet: Datasheet, folder: Path) -> Written:
    """Put a datasheet into a copy of the run's release, which is made where there is none, and into its checksums."""
    from tasks.answer.release import SUMS

    if folder.resolve().is_relative_to(store.root.resolve()):
        raise ConfigError(f"--into {folder}: is in the store, whose files never change. Name a folder of your own")
    data = RunData(store, run)
    artifact = data.artifacts.get(data.last_with("release"))
    if artifact is None:
        raise DataError(f"run {run['run']}: it has made no release that a datasheet could go into")
    store.fetch(artifact, transfer_line)
    release = artifact["release"]
    if damage := store.damage(release):
        raise DataError(f"run {run['run']}: {damage[0]}; run its recipe again to rebuild it")
    sums = folder / SUMS
    _copy(release, folder, sums)
    files = Written(*(folder / f"{NAME}{ending}" for ending in ENDINGS))
    write_datasheet(sheet, files)
    others = [line for line in sums.read_text(encoding="utf-8").splitlines() if not _is_ours(line)]
    lines = [*others, *(f"{digest_file(path)}  {path.name}" for path in files)]
    write_atomic(sums, "".join(f"{line}\n" for line in lines).encode())
    return files


def _copy(release: Part, folder: Path, sums: Path) -> None:
    """Copy a release, all of it or nothing; a folder that holds one already must hold this one."""
    if folder.is_dir() and any(folder.iterdir()):
        lines = sums.read_text(encoding="utf-8", errors="replace").splitlines() if sums.is_file() else []
        known = {file.name: file.digest for file in release.files}
        if f"{known[WEIGHTS]}  {WEIGHTS}" not in lines:
            raise ConfigError(
                f"--into {folder}: is not this run's release: it has no {sums.name} that names these weights. Name a "
                "copy of the release, or a folder that is not there yet, and it is copied there"
            )
        return
    half = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        for file in release.files:
            target = half / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            clone_or_copy(file.path, target)
        half.rename(folder)
    except OSError as error:
        raise ConfigError(f"--into {folder}: cannot be written ({error.strerror})") from None
    finally:
        if half.exists():
            remove_tree(half)


def _is_ours(line: str) -> bool:
    return line.partition("  ")[2] in {f"{NAME}{ending}" for ending in ENDINGS}
