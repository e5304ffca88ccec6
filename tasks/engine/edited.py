"""What changes while a stage is built, code that is saved or sources that are written, and what follows from it."""

from storage.code.module import WHOLE
from storage.errors import ConfigError
from storage.fingerprint import changed_code
from storage.snapshot import copy, origin
from tasks.engine.config import StageConfig
from tasks.engine.decide import Identity, observed_changes, roots_of
from tasks.engine.stage import Stage


def check_loaded(stage: Stage, identity: Identity) -> None:
    """Refuse to build with code that was saved after this process had imported it: its key would be another's.

    What runs from a snapshot (storage/snapshot.py) never meets this; a notebook or a script of the user's may.
    """
    saved = identity.reach.saved_since(stage.declared)
    if saved:
        raise ConfigError(
            f"{saved[0]}: saved after this process had imported stage {stage.name}, so what it would run is not what "
            "the file says. Start the process again"
        )


def doubts(stage: Stage, config: StageConfig, identity: Identity) -> list[str]:
    """What makes a result doubtful, one line each: sources that changed while they were read, code that was saved."""
    code = [f"code {path.stem} was saved meanwhile" for path in identity.reach.changed() if path.suffix == ".py"]
    code += [f"code file {path.name} was saved meanwhile" for path in identity.reach.changed() if path.suffix != ".py"]
    try:
        return [*code, *observed_changes(stage, config, identity)]
    except Exception as error:  # the result is there and is kept, though something cannot be checked now
        return [*code, f"source could not be checked again: {str(error) or type(error).__name__}"]


def saved_meanwhile(stage: Stage, config: StageConfig, identity: Identity) -> list[str]:
    """What was saved in the checkout while its snapshot ran: the next run's business, shown to people only."""
    checkout = origin()
    if checkout is None:
        return []
    roots = [*roots_of(stage, config), *((program, WHOLE) for program in stage.programs)]
    return changed_code(identity.reach, copy(), checkout, roots)
