"""A model of the Hugging Face hub, fetched at its commit: the files that are read of it, and no others.

Each file is checked by the size and digest that the hub lists; what was fetched once is never fetched again.
"""

from pathlib import Path

from model.huggingface import INDEX, shard_names
from model.shape import WEIGHTS
from storage.errors import DataError
from tasks.engine.context import Context, Job
from tasks.fetch.download import FILE
from tasks.fetch.hub import HubFile, HubFileJob, fetch_model_file, list_model
from tasks.initial.config import ImportConfig
from tasks.initial.files import MAX_TEXT_BYTES, TEXT_FILES, check_tokenizer_file
from tasks.wording import size


def fetch_model(config: ImportConfig, context: Context) -> Path:
    """The model's files in a folder; DataError where the hub does not give them."""
    listed = {file.path: file for file in list_model(config.model, config.revision)}
    check_tokenizer_file(f"model {config.where}", listed)
    folder = context.work / "model"
    folder.mkdir(parents=True, exist_ok=True)
    texts = [listed[name] for name in TEXT_FILES if name in listed and (name != INDEX or WEIGHTS not in listed)]
    _fetch(config, context, texts, folder)
    names = [WEIGHTS] if WEIGHTS in listed else _shards(config, folder)
    if missing := [name for name in names if name not in listed]:
        raise DataError(f"model {config.where}: {INDEX} names {missing[0]}, which the hub does not list")
    weights = [listed[name] for name in names]
    total = sum(file.size for file in weights)
    if total > config.max_bytes:
        raise DataError(
            f"model {config.where}: its weights have {size(total)}, more than max_bytes ({config.max_bytes:,})"
        )
    _fetch(config, context, weights, folder)
    return folder


def _shards(config: ImportConfig, folder: Path) -> list[str]:
    path = folder / INDEX
    if not path.exists():
        raise DataError(
            f"model {config.where}: has no {WEIGHTS} and no {INDEX}; pickled weights are refused, since reading them "
            "runs code"
        )
    return shard_names(path.read_bytes(), f"model {config.where}: {INDEX}")


def _fetch(config: ImportConfig, context: Context, files: list[HubFile], folder: Path) -> None:
    for file in files:
        if not file.path.endswith(".safetensors") and file.size > MAX_TEXT_BYTES:
            raise DataError(f"model {config.where}: {file.path} is larger than {MAX_TEXT_BYTES:,} bytes")
    settings = {"dataset": config.model, "commit": config.revision, "partial": str(context.work)}
    jobs = [HubFileJob(path=one.path, size=one.size, oid=one.oid, sha256=one.sha256, **settings) for one in files]
    found = context.map(fetch_model_file, [Job(job.path, job) for job in jobs], unit="files")
    for result in found:
        target = folder / result.name
        target.unlink(missing_ok=True)
        target.symlink_to(result.files[FILE].path)
