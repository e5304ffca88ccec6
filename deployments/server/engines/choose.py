"""Which engine answers for a model folder: ours, llama.cpp, or one at an address."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.server.adapters import OPTION, AdapterPlace
from deployments.server.engines.llama_cpp import LlamaCppEngine, check_llama_cpp, find_gguf, is_installed
from deployments.server.engines.remote import RemoteEngine
from deployments.server.engines.seam import AnswerEngine
from deployments.server.settings import ServerSettings
from model.adapter_rows import Adapters
from model.engine import Engine
from model.engine_thread import EngineThread
from model.shape import WEIGHTS, Shape
from storage.errors import ConfigError, DataError
from tasks.answer.release import SMALL_MODEL, Release, open_release, release_without_weights

AUTO, TORCH, LLAMA_CPP = "auto", "torch", "llama.cpp"
FEWEST_ROWS, LEAST_CONTEXT = 4, 64
# Nats. Our sums on two kinds of processor differ by 1e-4 at most (of a hundred tokens); llama.cpp rounds what it
# multiplies to 11 bits beside F16 weights, to 8 beside Q8_0, whose weights are rounded too; another server may compute
# in bfloat16.
FLOAT32, ROUNDINGS, ELSEWHERE = 0.01, {"F16": 0.1, "Q8_0": 0.5}, 0.5
HALF_BYTES = 2  # of a number in llama.cpp's cache


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine that runs, what it is called, and how many tokens prompt and answer may have together. `searches`:
    whether it looks for answers by beams. `rounding`: by how many nats its log-probabilities may differ from those of
    the same weights elsewhere. `memory_bytes`: of weights and cache in this process. `adapters`: those beside it."""

    release: Release
    engine: AnswerEngine
    name: str
    capacity: int
    searches: bool
    rounding: float
    memory_bytes: int
    adapters: Adapters | None = None


def is_address(engine: str) -> bool:
    """Whether a choice of an engine is an address; ConfigError for one that is nothing."""
    if engine in (AUTO, TORCH, LLAMA_CPP):
        return False
    if "://" not in engine:
        raise ConfigError(
            f"--engine {engine}: say {AUTO}, {TORCH}, {LLAMA_CPP}, or an address such as http://HOST:8000"
        )
    return True


def open_engine(
    folder: Path, engine: str, name: str, settings: ServerSettings, adapters: Sequence[AdapterPlace] = ()
) -> Opened:
    """Start an engine for a folder. `auto` is ours where the folder has its weights, else llama.cpp where it has a
    GGUF. ConfigError and DataError as each engine says; ConfigError for adapters that are not to be beside ours."""
    only_gguf = not (folder / WEIGHTS).is_file() and find_gguf(folder) is not None and is_installed()
    if is_address(engine) or engine == LLAMA_CPP or (engine == AUTO and only_gguf):
        if adapters:
            raise ConfigError(f"{OPTION}: adapters are served by our own engine, from {WEIGHTS}: use --engine {TORCH}")
        return _at_address(folder, engine, name, settings) if is_address(engine) else _llama_cpp(folder, settings)
    release = open_release(folder)
    beside = _put_beside(release, folder, adapters)
    shape, width = release.model.shape, release.model.compute_dtype.itemsize
    rows, capacity = rows_in_memory(shape, width, settings)
    weights = sum(one.numel() * one.element_size() for one in release.model.parameters())
    memory = weights + rows * capacity * token_bytes(shape, width)
    thread = EngineThread(Engine(release.model, rows, capacity, beside), settings.max_waiting)
    return Opened(release, thread, TORCH, capacity, True, FLOAT32, memory, beside)


def _put_beside(release: Release, folder: Path, places: Sequence[AdapterPlace]) -> Adapters | None:
    if not places:
        return None
    adapters = Adapters(release.model, folder)
    for place in places:
        try:
            adapters.add(place.name, place.folder)
        except (ConfigError, DataError) as error:
            raise type(error)(f"{OPTION} {place.name}: {error}") from error
    return adapters


def _llama_cpp(folder: Path, settings: ServerSettings) -> Opened:
    path = check_llama_cpp(folder)
    release = release_without_weights(folder)
    shape = release.model.shape
    rows, capacity = rows_in_memory(shape, HALF_BYTES, settings)
    threads = 1 if shape.parameters < SMALL_MODEL else os.cpu_count() or 1
    engine = LlamaCppEngine(path, rows, capacity, threads, settings)
    memory = path.stat().st_size + rows * capacity * token_bytes(shape, HALF_BYTES)
    rounding = ROUNDINGS[path.stem.rpartition("-")[2]]
    return Opened(release, engine, f"{LLAMA_CPP} ({path.name})", capacity, False, rounding, memory)


def _at_address(folder: Path, url: str, name: str, settings: ServerSettings) -> Opened:
    from deployments.server.engines.address import find_address

    address = find_address(url, name)
    release = release_without_weights(folder)
    capacity = min(release.context_length, address.context_length or release.context_length)
    engine = RemoteEngine(address, settings.rows + settings.max_waiting, settings.look_seconds)
    return Opened(release, engine, f"{address.model} at {address.base}", capacity, False, ELSEWHERE, 0)


def rows_in_memory(shape: Shape, width: int, settings: ServerSettings) -> tuple[int, int]:
    """How many requests are answered at once, and how many tokens each may have, in `cache_bytes`, at `width` bytes a
    number.

    A long context is cut until FEWEST_ROWS fit. DataError where not even LEAST_CONTEXT tokens of one do.
    """
    token = token_bytes(shape, width)
    fewest = min(FEWEST_ROWS, settings.rows)
    capacity = min(shape.context_length, settings.cache_bytes // (token * fewest))
    if capacity < min(LEAST_CONTEXT, shape.context_length):
        raise DataError(
            f"a token of this model takes {token:,} bytes of cache; cache_bytes ({settings.cache_bytes:,}) is too "
            f"little for {fewest} requests of {LEAST_CONTEXT} tokens"
        )
    return min(settings.rows, settings.cache_bytes // (token * capacity)), capacity


def token_bytes(shape: Shape, width: int) -> int:
    """What a token takes of the cache."""
    return 2 * shape.layers * shape.key_value_heads * shape.head_dim * width
