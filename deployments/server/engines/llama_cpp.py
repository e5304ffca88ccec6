"""llama.cpp in this process, on a release's GGUF: the optional package xllamacpp, prebuilt for the usual machines.

Its server listens on the loopback under a key that nobody else has, and is asked as any engine at an address is.
"""

import importlib.util
import secrets
from pathlib import Path
from typing import Any

from deployments.server.engines.address import Address
from deployments.server.engines.remote import RemoteEngine
from deployments.server.settings import ServerSettings
from model.engine import Request
from storage.errors import ConfigError, DataError
from tasks.answer.release import check_sums

PACKAGE = "xllamacpp"
KINDS = ("F16", "Q8_0")  # of a release's files, the one that is nearest to its weights first
# llama.cpp's own ways to choose a token are turned off: what is asked for is what happens.
CHOOSING = {"samplers": ["temperature", "top_p"], "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}


class LlamaCppEngine(RemoteEngine):
    """The engine of llama.cpp on one file, for `rows` requests of `capacity` tokens at once."""

    def __init__(self, path: Path, rows: int, capacity: int, threads: int, settings: ServerSettings) -> None:
        self._server, address = _start(path, rows, capacity, threads)
        super().__init__(address, rows + settings.max_waiting, settings.look_seconds)

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent for a request. What one key's users have asked is not kept: it would show in others' times."""
        return super().body(request) | CHOOSING | {"cache_prompt": request.tenant == ""}

    def stop(self, seconds: float = 0.0) -> None:
        """As the seam says; the file's memory is free afterwards."""
        super().stop(seconds)
        self._server = None


def is_installed() -> bool:
    """Whether llama.cpp is there."""
    return importlib.util.find_spec(PACKAGE) is not None


def find_gguf(folder: Path) -> Path | None:
    """The file that llama.cpp is to read, of those of a release."""
    return next((path for kind in KINDS for path in sorted(folder.glob(f"*-{kind}.gguf"))), None)


def check_llama_cpp(folder: Path) -> Path:
    """The file; ConfigError where the package or the file is missing, DataError where it is damaged."""
    if not is_installed():
        raise ConfigError(f"--engine llama.cpp: llama.cpp is not installed: pip install {PACKAGE}")
    path = find_gguf(folder)
    if path is None:
        raise ConfigError(
            f"--engine llama.cpp: {folder} has no {' or '.join(f'*-{kind}.gguf' for kind in KINDS)}; add gguf-f16 to "
            "release.formats of the recipe and run it again"
        )
    check_sums(folder, [path.name])
    return path


def _start(path: Path, rows: int, capacity: int, threads: int) -> tuple[Any, Address]:
    import xllamacpp

    key = secrets.token_urlsafe(32)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx, parameters.n_parallel = rows * capacity, rows
    parameters.api_keys, parameters.ui, parameters.endpoint_slots = [key], False, False
    parameters.cache_ram_mib, parameters.warmup, parameters.verbosity = 0, False, -1
    parameters.cpuparams.n_threads = threads
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        raise DataError(f"{path}: llama.cpp cannot read it: {error}") from None
    return server, Address(f"{server.listening_address}/v1", path.stem, key)
