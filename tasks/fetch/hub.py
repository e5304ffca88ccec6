"""Data sets of the Hugging Face hub: which files a config and split have at a revision, and one file fetched.

The hub is asked through huggingface_hub (HF_ENDPOINT, and the token of HF_TOKEN or `hf auth login`; never of a
recipe). A revision is resolved to a commit, and files are named by it: what is fetched once is never fetched again,
whatever becomes of the branch. A file is checked by its size and digest, so that one that was changed under a commit
is refused. Which files are meant, in this order: the globs of the recipe; those that the data set's card names for the
config and split; those whose path names the split. Where the branch `main` has none that can be read, such as for data
sets made by a script, the hub's own conversion to Parquet is taken (branch refs/convert/parquet).
"""

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from storage.errors import DataError
from storage.listing import and_more
from storage.retryable import http_status
from tasks.engine.config import LOCATION, StageConfig
from tasks.engine.context import Summary
from tasks.fetch.config import HuggingFaceSource
from tasks.fetch.download import FILE, Wanted, download

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CONVERTED = "refs/convert/parquet"
_READABLE = re.compile(r"\.(parquet|jsonl|ndjson|json|csv|tsv|txt)(\.(gz|zst|bz2|xz))?$", re.IGNORECASE)
_NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file at a commit: path in the data set, size in bytes, git's object id, and SHA-256 (empty for small files)."""

    path: str
    size: int
    oid: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a source, in order of their paths, at the commit that its revision stands for."""

    commit: str
    files: tuple[HubFile, ...]


class HubFileJob(StageConfig):
    """One file of a data set, or of a model, at a commit."""

    dataset: str = Field(description="Data set or model: OWNER/NAME.")
    commit: str = Field(
        json_schema_extra=LOCATION, description="Commit it is fetched at; the same file of another is the same."
    )
    path: str = Field(description="Path of the file in the data set.")
    size: int = Field(description="Bytes of the file.")
    oid: str = Field(description="Git's object id of the file.")
    sha256: str = Field(description="SHA-256 of the file; empty where the hub does not state it.")
    partial: str = Field(json_schema_extra=LOCATION, description="Folder in which the file grows.")


def list_hub(source: HuggingFaceSource) -> Listing:
    """The files of a source; asks the hub. DataError where there is none, or no access."""
    listing = _listed(source, source.revision)
    if not listing.files and source.revision == "main" and not source.files:
        listing = _listed(source, CONVERTED, needed=False) or listing
    if not listing.files:
        raise DataError(
            f"{source.where}: no file of revision {source.revision} is of split {source.split}"
            + (f" and config {source.config}" if source.config else "")
            + ". Set config and split as its page shows them, `files` to a glob of the wanted files, or "
            f"revision={CONVERTED} for the hub's conversion to Parquet."
        )
    return listing


def hub_jobs(source: HuggingFaceSource, listing: Listing, partial: Path) -> list[HubFileJob]:
    """What is to be fetched: a job for each file. `partial` is a folder that survives a kill."""
    settings = {"dataset": source.dataset, "commit": listing.commit, "partial": str(partial)}
    return [
        HubFileJob(path=file.path, size=file.size, oid=file.oid, sha256=file.sha256, **settings)
        for file in listing.files
    ]


def fetch_hub_file(job: HubFileJob, inputs: dict[str, Path], out: Path) -> Summary:
    """Fetch one file of a data set, going on with what is there of it."""
    return _fetch(job, "dataset", out)


def fetch_model_file(job: HubFileJob, inputs: dict[str, Path], out: Path) -> Summary:
    """Fetch one file of a model, going on with what is there of it."""
    return _fetch(job, "model", out)


def _fetch(job: HubFileJob, kind: str, out: Path) -> Summary:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils._headers import build_hf_headers

    address = hf_hub_url(job.dataset, job.path, repo_type=kind, revision=job.commit, endpoint=_endpoint())
    headers = {name: value for name, value in build_hf_headers().items() if name.lower() == "authorization"}
    name = hashlib.sha256(f"{job.dataset}\0{job.commit}\0{job.path}".encode()).hexdigest()[:32]
    # HF_ENDPOINT is the user's own setting: it may be a mirror in a private network. The hub itself leads to none.
    wanted = Wanted(address, job.size, job.sha256, headers, allow_private=_endpoint() is not None)
    digest = download(wanted, Path(job.partial) / name, out / FILE)
    if not job.sha256 and (found := _git_oid(out / FILE)) != job.oid:
        raise DataError(f"{job.dataset}: {job.path} at {job.commit} is not what the hub lists ({found}, not {job.oid})")
    return {"bytes": job.size, "sha256": digest}


def _endpoint() -> str | None:
    """Where the hub is, as the environment says it now; None: at its usual address."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _git_oid(path: Path) -> str:
    """What git calls a file's contents."""
    data = path.read_bytes()  # small: large ones have a SHA-256
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _listed(source: HuggingFaceSource, revision: str, needed: bool = True) -> Listing:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    api = HfApi(endpoint=_endpoint())
    try:
        info = api.dataset_info(source.dataset, revision=revision)
        commit = str(info.sha)
        files = _tree(api, source.dataset, "dataset", commit)
    except OfflineModeIsEnabled as error:
        raise DataError(f"{source.where}: HF_HUB_OFFLINE is set, so the hub is not asked. Unset it.") from error
    except Exception as error:
        status = http_status(error)
        if status in (401, 403, 404):
            if not needed:
                return Listing("", ())
            raise _no_access(source, revision, status) from error
        raise
    card: Mapping[str, Any] = info.card_data.to_dict() if info.card_data else {}
    chosen = _chosen(source, {file.path: file for file in files if _READABLE.search(file.path)}, card, revision)
    return Listing(commit, tuple(sorted(chosen, key=lambda file: file.path)))


def list_model(model: str, commit: str) -> list[HubFile]:
    """The files of a model at a commit; asks the hub. DataError where there is none, or no access."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        return _tree(HfApi(endpoint=_endpoint()), model, "model", commit)
    except OfflineModeIsEnabled as error:
        raise DataError(f"model {model}: HF_HUB_OFFLINE is set, so the hub is not asked. Unset it.") from error
    except Exception as error:
        status = http_status(error)
        if status not in (401, 403, 404):
            raise
        advice = {
            401: "It is not there, or private: correct `model`, or set HF_TOKEN in the environment.",
            403: "Its owner has to let you in: ask on its page, and set HF_TOKEN in the environment.",
            404: f"There is no such model, or no commit {commit}: correct `model` and `revision`.",
        }[status]
        raise DataError(f"model {model}: the hub gives no access (HTTP {status}). {advice}") from error


def _tree(api: "HfApi", name: str, kind: str, commit: str) -> list[HubFile]:
    from huggingface_hub.hf_api import RepoFile

    return [
        HubFile(item.path, item.size, item.blob_id, item.lfs.sha256 if item.lfs else "")
        for item in api.list_repo_tree(name, repo_type=kind, revision=commit, recursive=True)
        if isinstance(item, RepoFile)
    ]


def _no_access(source: HuggingFaceSource, revision: str, status: int) -> DataError:
    advice = {
        401: "It is not there, or private: correct `dataset`, or set HF_TOKEN in the environment.",
        403: "Its owner has to let you in: ask on its page, and set HF_TOKEN in the environment.",
        404: f"There is no such data set, or no revision {revision}: correct `dataset` and `revision`.",
    }[status]
    return DataError(f"{source.where}: the hub gives no access (HTTP {status}). {advice}")


def _chosen(
    source: HuggingFaceSource, files: Mapping[str, HubFile], card: Mapping[str, Any], revision: str
) -> list[HubFile]:
    """The files that the source means."""
    if source.files:
        return _matching(files, source.files)
    if revision == CONVERTED:
        folder = f"{source.config or _only_config(source, files)}/"
        return [
            file
            for path, file in files.items()
            if path.startswith((f"{folder}{source.split}/", f"{folder}partial-{source.split}/"))
        ]
    globs = _of_card(source, card)
    if globs:
        return _matching(files, globs)
    split = re.compile(rf"(?:^|[-._/ ]){re.escape(source.split)}(?:[-._/ ]|$)")
    named = [file for path, file in files.items() if split.search(path)]
    return [file for file in named if not source.config or source.config in file.path.split("/")[:-1]]


def _only_config(source: HuggingFaceSource, files: Iterable[str]) -> str:
    configs = sorted({path.partition("/")[0] for path in files if "/" in path})
    if len(configs) > 1 and "default" not in configs:
        more = f", {and_more(len(configs) - _NAMES_SHOWN)}" if len(configs) > _NAMES_SHOWN else ""
        raise DataError(
            f"{source.where}: it has several configs: {', '.join(configs[:_NAMES_SHOWN])}{more}. Set config to one."
        )
    return "default" if "default" in configs or not configs else configs[0]


def _of_card(source: HuggingFaceSource, card: Mapping[str, Any]) -> list[str]:
    """The globs that the card names for the config (or the only or default one) and the split."""
    configs = [one for one in card.get("configs") or () if isinstance(one, Mapping)]
    wanted = source.config or next((one["config_name"] for one in configs if one.get("default")), "default")
    named = [one for one in configs if one.get("config_name") == wanted]
    if not named and not source.config and len(configs) == 1:
        named = configs
    globs: list[str] = []
    for one in named:
        found = one.get("data_files") or ()
        for entry in [{"split": "train", "path": found}] if isinstance(found, str) else found:
            if isinstance(entry, Mapping) and entry.get("split", "train") == source.split:
                path = entry.get("path", ())
                globs += [path] if isinstance(path, str) else list(path)
    return globs


def _matching(files: Mapping[str, HubFile], globs: Iterable[str]) -> list[HubFile]:
    patterns = tuple(globs)
    return [file for path, file in files.items() if any(fnmatch.fnmatchcase(path, glob) for glob in patterns)]
