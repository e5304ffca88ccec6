"""Adapters beside the model that is served: each has a name, which requests ask for as they ask for a model.

They are named on the command line, or in LLMILL_ADAPTERS, where containers have their settings: NAME=REF, and spaces
between several.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.adapter_config import adapter_files
from storage.canonical import digest_file, digest_of
from storage.errors import ConfigError

OPTION, VARIABLE = "--adapter", "LLMILL_ADAPTERS"
DEFAULT = "default"  # what requests may call the model itself
_NAME = re.compile(r"\w[\w.:/-]{0,127}")


@dataclass(frozen=True, slots=True)
class AdapterPlace:
    """Where an adapter lies, and what requests call it."""

    name: str
    folder: Path

    def digest(self, model: str) -> str:
        """What says which model it makes of the model of a digest."""
        return digest_of([model, *(digest_file(self.folder / name) for name in adapter_files(self.folder))])


def find_adapters(
    given: Sequence[str], most: int, taken: Sequence[str], folder_of: Callable[[str], Path]
) -> tuple[AdapterPlace, ...]:
    """The adapters that the command line gives, else those of the environment, `most` at most.

    ConfigError for what is no NAME=REF, for a name that is there twice or among `taken`, and for too many; `folder_of`
    says where a reference leads, and raises what it must.
    """
    where, said = (OPTION, given) if given else (VARIABLE, os.environ.get(VARIABLE, "").split())
    if len(said) > most:
        raise ConfigError(f"{where}: {len(said)} adapters; {most} at most stand beside one model (max_adapters)")
    found: dict[str, AdapterPlace] = {}
    for one in said:
        name, equals, reference = one.partition("=")
        if not (equals and reference and _NAME.fullmatch(name)):
            raise ConfigError(
                f"{where} {one}: say NAME=REF, such as polite=adapters/polite; a name has letters, digits and . : / - _"
            )
        if name in (DEFAULT, *taken, *found):
            whose = "another adapter's" if name in found else "what requests call the model itself"
            raise ConfigError(f"{where} {one}: the name {name} is {whose}; give this adapter another")
        folder = folder_of(reference)
        adapter_files(folder)
        found[name] = AdapterPlace(name, folder)
    return tuple(found.values())
