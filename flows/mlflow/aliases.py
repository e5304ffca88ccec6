"""The champion in MLflow: aliases of registered model versions, a mirror of the store's names.

A version is known by its tag `llmill.release`, the digest of the release's files. An alias may be on any registered
model: a champion of another name takes it from the old one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of a registered model, and the digest of the release that it holds."""

    model: str
    version: str
    release: str


def disagreements(client: Any, wanted: Mapping[str, tuple[str, str]], aliases: tuple[str, ...]) -> list[str]:
    """Where MLflow differs from `wanted`, {alias: (model, digest of the release)}; in words."""
    found = {alias: list(_having(client, alias)) for alias in aliases}
    return [
        f"{alias}: the store has {_named(wanted.get(alias))}, MLflow {_shown(found[alias])}"
        for alias in aliases
        if [(one.model, one.release) for one in found[alias]] != ([wanted[alias]] if alias in wanted else [])
    ]


def mirror(client: Any, wanted: Mapping[str, tuple[str, str]], aliases: tuple[str, ...]) -> list[str]:
    """Set the aliases as `wanted` and remove all others; returns what could not be set, in words."""
    missing = []
    for alias in aliases:
        target = wanted.get(alias)
        version = _version(client, *target) if target else None
        for one in list(_having(client, alias)):
            if version is None or one.model != version.model:
                client.delete_registered_model_alias(one.model, alias)
        if version is not None:
            client.set_registered_model_alias(version.model, alias, version.version)
        elif target is not None:
            missing.append(f"{alias}: {_named(target)} is not registered in MLflow")
    return missing


def _version(client: Any, model: str, release: str) -> Registered | None:
    """The newest version of a model that holds a release."""
    found = [
        Registered(model, version.version, release)
        for version in client.search_model_versions(f"name = '{model}'")
        if version.tags.get("llmill.release") == release
    ]
    return max(found, key=lambda one: int(one.version), default=None)


def _having(client: Any, alias: str) -> Iterator[Registered]:
    """The versions of all registered models that have an alias."""
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        for model in page:
            if alias in model.aliases:
                version = client.get_model_version(model.name, model.aliases[alias])
                yield Registered(model.name, version.version, version.tags.get("llmill.release", ""))
        token = page.token
        if not token:
            return


def _named(target: tuple[str, str] | None) -> str:
    return f"{target[0]} {target[1][:8]}" if target else "none"


def _shown(found: list[Registered]) -> str:
    return ", ".join(f"{one.model} version {one.version} ({one.release[:8] or 'not ours'})" for one in found) or "none"
