"""The Hugging Face hub: only for lm-eval's own tasks, and never waited for longer than a few seconds.

Left alone, the libraries try an unreachable hub for 25 s a data set. So it is asked once whether it is there; if not,
or if the user has set HF_HUB_OFFLINE, they are set offline: what is in their cache is used, all else fails
at once. `HF_HOME` is under llmill's home unless it is set. No code from the hub is run, nothing is reported.
"""

import functools
import logging
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from storage.bystander import bystander
from storage.errors import DataError
from storage.home import home

DEFAULT_ENDPOINT = "https://huggingface.co"
PATIENCE_SECONDS = 6.0
_SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def endpoint() -> str:
    """The hub's web address: HF_ENDPOINT, or the public one."""
    return os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT)


def why_unreachable() -> str:
    """Why the hub cannot be asked, or an empty string where it can; answers within PATIENCE_SECONDS."""
    for switch in _SWITCHES:
        if os.environ.get(switch, "").upper() in ("1", "ON", "YES", "TRUE"):
            return f"{switch} is set"
    found = [f"{endpoint()} does not answer within {PATIENCE_SECONDS:.0f} s"]

    def probe() -> None:
        found[0] = _probe(endpoint())

    thread = threading.Thread(target=probe, daemon=True)  # a name lookup has no time limit of its own
    thread.start()
    thread.join(PATIENCE_SECONDS)
    return found[0]


def _probe(address: str) -> str:
    if not address.startswith(("http://", "https://")):
        return f"HF_ENDPOINT {address} is not a web address"
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code < 500 else f"{address} answers with status {error.code}"
    except (OSError, ValueError) as error:
        return f"{address} cannot be reached ({getattr(error, 'reason', error)})"


@bystander
@contextmanager
def quiet_libraries(*, offline: bool = True) -> Iterator[None]:
    """lm-eval and datasets without progress bars and warnings, offline or not; all is put back afterwards.

    lm-eval compiles a task's template again for every item, which was four fifths of the time of a cheap task: here
    each is compiled once.

    They read the variables when they are first imported; where that has happened, their constants are set too.
    """
    wanted = {
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_DATASETS_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": os.environ.get("HF_HOME", str(home() / "cache" / "huggingface")),
    }
    before = {name: value for name, value in os.environ.items() if name.startswith("HF_")}
    os.environ.update(wanted)
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    constants = _set_offline(offline)
    try:
        import lm_eval.api.task as task_module
        from lm_eval.utils import env

        progress_bar, compile_template = task_module.tqdm, env.from_string
        task_module.tqdm = functools.partial(progress_bar, disable=True)
        env.from_string = functools.lru_cache(maxsize=256)(compile_template)
        try:
            yield
        finally:
            task_module.tqdm, env.from_string = progress_bar, compile_template
    finally:
        logger.setLevel(level)
        for module, name, value in constants:
            setattr(sys.modules[module], name, value)
        for name in [name for name in os.environ if name.startswith("HF_")]:  # lm-eval sets some of its own
            del os.environ[name]
        os.environ.update(before)


@bystander
def _set_offline(offline: bool) -> list[tuple[str, str, bool]]:
    """Set the switch in the libraries that are imported; returns what it was."""
    before = []
    for module in ("huggingface_hub.constants", "datasets.config"):
        for name in _SWITCHES:
            if hasattr(sys.modules.get(module), name):
                before.append((module, name, getattr(sys.modules[module], name)))
                setattr(sys.modules[module], name, offline)
    return before


def not_loaded(task: str, option: str, reason: str, error: Exception) -> DataError:
    """What is said of a task of lm-eval whose data could not be had; `reason`: why the hub was not asked, if so."""
    cause = " ".join(str(error).split())[:200]
    if reason:
        return DataError(
            f"{option}: {task}: its data come from the Hugging Face hub and are not in the cache: {reason}. "
            "Try again with a connection, set HF_HOME to a folder that holds them, or leave the task out "
            f"({type(error).__name__}: {cause})"
        )
    return DataError(f"{option}: {task}: lm-eval could not load it ({type(error).__name__}: {cause})")
