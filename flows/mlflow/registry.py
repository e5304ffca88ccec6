"""Releases in MLflow's model registry: a logged model and a version of a registered model for each digest.

A version is known by its tag `llmill.release`, the digest of the release's files. MLflow's UI and clients find each
of run, logged model and version from the others: by the outputs of runs, by the tag `mlflow.modelVersions` of the
logged model, by run and source of the version.

Where artifacts are in folders of this machine, the logged model's folder holds the store's own files under a second
name (hard links), not a copy. It is a folder of its own, since MLflow's clients write a file into what they load, and
refuse symbolic links that lead out of it. To a tracking server the files are uploaded: whoever asks it cannot reach
the store.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from storage.files import link_or_copy
from storage.store.artifacts import Part
from tasks.wording import figure

RELEASE_TAG = "llmill.release"
VERSIONS_TAG = "mlflow.modelVersions"  # of a logged model, as mlflow.register_model sets it


@dataclass(frozen=True, slots=True)
class Model:
    """A release, the name of its registered model, and the descriptions of that and of this version (Markdown)."""

    name: str
    release: Part
    about: str = ""
    made_from: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """A version, and the id of its logged model where that was made with it."""

    version: str
    model_id: str | None


def register(
    client: Any, experiment: str, model: Model, runs: Sequence[str], run_name: str, *, link: bool
) -> Registered:
    """The version of a release, made where there is none yet; can be repeated. It belongs to the first of `runs`.

    `link`: the artifacts are on this machine and need no copy.
    """
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # it is there; another fault is met again by the next call
        client.create_registered_model(model.name, description=model.about)
    digest = model.release.digest
    for version in client.search_model_versions(f"name = '{model.name}'"):
        if version.tags.get(RELEASE_TAG) == digest:
            return Registered(str(version.version), None)
    run = runs[0] if runs else None
    tags = {RELEASE_TAG: digest, "llmill.run": run_name}
    begun = client.search_logged_models([experiment], f"name = '{model.name}' AND tags.`{RELEASE_TAG}` = '{digest}'")
    logged = next(iter(begun), None) or client.create_logged_model(experiment, model.name, run, tags)
    if not (link and _link(model.release.path, logged.artifact_location)):
        client.log_model_artifacts(logged.model_id, str(model.release.path))
    client.finalize_logged_model(logged.model_id, "READY")
    version = client.create_model_version(
        model.name, f"models:/{logged.model_id}", run, tags, description=model.made_from, model_id=logged.model_id
    )
    client.update_model_version(model.name, version.version, f"{model.made_from}\n\n{_how_to_load(version)}".strip())
    _cross_reference(client, runs, logged.model_id, version)
    return Registered(str(version.version), logged.model_id)


def _how_to_load(version: Any) -> str:
    return f'```python\nmlflow.pyfunc.load_model("models:/{version.name}/{version.version}").predict("...")\n```'


def _cross_reference(client: Any, runs: Sequence[str], model_id: str, version: Any) -> None:
    from mlflow.entities import LoggedModelOutput

    versions = json.dumps([{"name": version.name, "version": version.version}])
    client.set_logged_model_tags(model_id, {VERSIONS_TAG: versions})
    for run in runs:
        client.log_outputs(run, [LoggedModelOutput(model_id, step=0)])


def _link(release: Path, location: str) -> bool:
    """Give the files of a release a second name in the folder of a location; False where that is not one of ours."""
    folder = folder_of(location)
    if folder is None:
        return False
    for file in filter(Path.is_file, release.rglob("*")):
        target = folder / file.relative_to(release)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        link_or_copy(file, target)
    return True


def folder_of(location: str) -> Path | None:
    """The folder that an artifact location names; None where it is not on this machine."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parts.path) if parts.scheme else location)


# Forgetting -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """A version of ours, and the folder of this machine that holds its files."""

    name: str
    version: str
    release: str  # digest
    model_id: str
    folder: Path


def held_below(client: Any, root: Path) -> Iterator[Held]:
    """The versions of releases whose logged models have their files below a folder."""
    token = None
    while True:
        page = client.search_model_versions(page_token=token)
        for version in page:
            model_id = version.source.removeprefix("models:/")
            if RELEASE_TAG in version.tags and version.source.startswith("models:/m-"):
                folder = folder_of(client.get_model_version_download_uri(version.name, str(version.version)))
                if folder is not None and folder.is_relative_to(root):
                    yield Held(version.name, str(version.version), version.tags[RELEASE_TAG], model_id, folder)
        token = page.token
        if not token:
            return


def forget(client: Any, held: Held) -> None:
    """Delete a version, its logged model and their files; can be repeated after an error."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with suppress(MlflowException):  # it is gone: by a try before this one, or in MLflow's UI
        client.delete_logged_model(held.model_id)
    get_artifact_repository(held.folder.as_uri()).delete_artifacts()
    with suppress(OSError):
        held.folder.parent.rmdir()  # the logged model's own, which holds nothing else
    client.delete_model_version(held.name, held.version)


def model_text(release: Part, run: str, recipe: str, scores: Mapping[str, float]) -> str:
    """What a version was made from, as Markdown."""
    lines = [f"Made by run `{run}` of the recipe `{recipe}`. Files: `{release.digest}`."]
    if scores:
        parts = ", ".join(f"{short} {figure(value)}" for short, value in scores.items())
        lines.append(f"Held-out text, in bits per byte: {parts}.")
    lines.append("The model card is `README.md` among the artifacts of its logged model.")
    return "\n\n".join(lines)
