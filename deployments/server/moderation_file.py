"""What judges at a server: what the run of its model has made, or what `llmill serve --moderation` reads: a YAML
file of categories, as the section `moderate` of a recipe has them.

```yaml
classifier: latest   # for categories with labels: the run, or its folder moderator, whose weights tell them
categories:
- {name: hate, labels: ["0"], threshold: 0.4}
- {name: insults, words: [{path: lists/insults.txt}]}
```
"""

from collections.abc import Callable
from pathlib import Path

from pydantic import Field, ValidationError

from storage.errors import ConfigError
from storage.runs import runs
from storage.yaml_files import read_yaml
from tasks.engine.config import relocated
from tasks.moderate.config import ModerationConfig
from tasks.moderate.moderator import Moderator, open_moderator


class ModerationFile(ModerationConfig):
    """All that the file can say."""

    classifier: str | None = Field(
        None, min_length=1, description="Run, or folder of its part moderator, whose classifier judges; empty: none."
    )


def open_moderation(given: str, folder_of: Callable[[str], Path]) -> Moderator:
    """The judge that a user names: of a YAML file, or by what `folder_of` finds the folder of a moderator by."""
    path = Path(given).expanduser()
    return read_moderation(path, folder_of) if path.is_file() else open_moderator(folder_of(given))


def read_moderation(path: Path, folder_of: Callable[[str], Path]) -> Moderator:
    """The judge that a file describes; `folder_of` finds the folder of a moderator by its reference. ConfigError or
    DataError for a wrong file, and for categories that its classifier does not know."""
    given = read_yaml(path, "file of moderation", "categories")
    try:
        read = ModerationFile.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc'])) or 'moderation'}: {message}") from None
    config = relocated(read, lambda place: str(path.parent / Path(place).expanduser()))
    learned = [category.name for category in config.categories if category.labels]
    classifier = open_moderator(folder_of(read.classifier)).classifier if read.classifier else None
    known = classifier.categories if classifier is not None else ()
    for position, category in enumerate(config.categories):
        if category.name in learned and category.name not in known:
            have = f"the classifier of {read.classifier} knows {', '.join(known) or 'none'}"
            raise ConfigError(
                f"{path}: categories.{position}.labels: "
                + (have if read.classifier else "name the run that has learned them: `classifier: latest/moderator`")
            )
    if classifier is not None:
        classifier = classifier.only(learned)
    return Moderator.of(config, f"{path}: ", classifier)


def moderator_of_run(home: Path, name: str, folder_of: Callable[[str], Path]) -> Moderator | None:
    """The judge that a run has made; None where it made none, or there is no such run."""
    own = next((run for run in runs(home) if run["run"] == name), None)
    if own is None or all(row["stage"] != "moderator" for row in own["stages"]):
        return None
    return open_moderator(folder_of(name))
