"""The flow as a whole: what its stages reach, and what planning imports."""

from flows.build import STAGES
from storage.fingerprint import fingerprint


def test_stages_do_not_reach_the_engine() -> None:
    for stage in STAGES:
        reached = fingerprint(stage.function.__module__, stage.function.__qualname__, stage.programs).code
        assert not [name for name in reached if name.startswith(("tasks.engine", "tasks.stage", "storage.store"))]
