"""Where llmill writes everything: `$LLMILL_HOME`, by default `.llmill/` in the current folder.

| folder | holds |
|---|---|
| store/ | parts, artifacts, shards and job records: what stages made |
| builds/ | build records: one for each key, by stage |
| runs/ | one file for each run, the truth about it, and its report |
| datasheets/ | what `llmill datasheet` has written of runs |
| work/ | staging folders, locks and checkpoints of builds that are under way |
| service/ | keys and ledger of the model server, and what users have said of its answers |
| prefect/, mlflow/, cache/ | the default servers' databases and caches |
"""

import os
import tempfile
from pathlib import Path

from storage.errors import StoreError
from storage.files import is_utf8

VARIABLE = "LLMILL_HOME"


def home() -> Path:
    """The absolute home of this process; children inherit it because the variable is made absolute."""
    given = os.environ.get(VARIABLE) or ".llmill"
    try:
        path = Path(given).expanduser().absolute()
    except RuntimeError:
        raise StoreError(f"{VARIABLE}={given}: the home folder of this user is not known; write the path out") from None
    if not is_utf8(str(path)):
        raise StoreError(f"{path}: the name of the home is not UTF-8. Set {VARIABLE} to another folder.")
    os.environ[VARIABLE] = str(path)
    return path


def prepare_home() -> Path:
    """Create the home and prove that it can be written; raises StoreError otherwise."""
    path = home()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise StoreError(
            f"{path}: the home cannot be written ({error.strerror}). "
            f"Set {VARIABLE} to a folder that you may write, or change its permissions."
        ) from error
    return path


def ensure_user_home() -> None:
    """Give a user without a home folder one under ours: `HOME` for this process and its children.

    A container may run under a user id without a name (`docker run --user 54321` without `HOME`, OpenShift): Prefect
    and MLflow ask for the folder at their import, and end. Neither writes there.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(home() / "cache" / "user")


def ui_file(home: Path) -> Path:
    """The file with the addresses at which `llmill ui` serves this home's UIs, there for as long as it does."""
    return home / "prefect" / "ui.json"
