"""lm-eval's own tasks by name, without its index: 14,000 files take it 10 CPU-seconds to parse, here half of one.

Every line `task:`, `group:` or `tag:` of its files is read once by a pattern and kept in the home's cache for this
version of lm-eval: name -> the folders that mention it. lm-eval is then given these folders alone.
"""

import contextlib
import difflib
import importlib.metadata
import importlib.util
import os
import re
from pathlib import Path

from storage.errors import ConfigError, DataError
from storage.files import read_json, write_json
from storage.home import home

_NAMES = re.compile(
    rb"^(?:task|group|tag):[ \t]*(?:[\"']?([^\s\"'#\[\]]+)[\"']?[ \t\r]*$|((?:\n[ \t]*-[ \t]*\S+[ \t]*)+))",
    re.MULTILINE,
)
_LISTED = re.compile(rb"-[ \t]*[\"']?([^\s\"':]+)")


def lm_eval_version() -> str:
    """The installed version, from its metadata: without importing it."""
    return importlib.metadata.version("lm_eval")


def tasks_folder() -> Path:
    """The folder of lm-eval's task files; found without importing it."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        raise DataError("lm_eval is not installed, so no benchmark can be measured: pip install lm-eval")
    return Path(found.origin).parent / "tasks"


def check_builtin(name: str, option: str) -> None:
    """ConfigError with the nearest known name where lm-eval has no such task, group or tag."""
    known = builtin_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        raise ConfigError(
            f"{option}: lm-eval {lm_eval_version()} has no task, group or tag {name!r}{hint}. "
            "For task files of your own give `path`."
        )


def builtin_names() -> dict[str, list[str]]:
    """Name of each task, group and tag -> the folders that mention it, relative to `tasks_folder()`."""
    cache = home() / "cache" / f"lm-eval-{lm_eval_version()}-names.json"
    names: dict[str, list[str]] | None = read_json(cache)
    if names is None:
        names = _scan(tasks_folder())
        with contextlib.suppress(OSError):  # a home that cannot be written: scan again next time
            write_json(cache, names)
    return names


def _scan(root: Path) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for folder, _, files in os.walk(root):
        relative = Path(folder).relative_to(root).as_posix()
        for file in files:
            if file.endswith("yaml"):  # templates without a dot too: `_template_yaml`
                for one, several in _NAMES.findall(Path(folder, file).read_bytes()):
                    for name in [one] if one else _LISTED.findall(several):
                        found.setdefault(name.decode(errors="replace"), set()).add(relative)
    return {name: sorted(folders) for name, folders in sorted(found.items())}
