"""The flow as a whole: what its stages reach, and what planning imports."""

import pytest

from flows.build import BUILD
from storage.fingerprint import fingerprint
from tasks.retrain.continuing import continue_pretraining


def test_stages_do_not_reach_the_engine() -> None:
    for stage in BUILD.stages:
        reached = fingerprint(stage.function.__module__, stage.function.__qualname__, stage.programs).code
        assert not [
            name
            for name in reached
            if name.startswith(("tasks.engine.builder", "tasks.engine.stage", "storage.store.local"))
            or ".about." in name
        ], f"{stage.name}: neither the engine nor what a stage says about itself decides what comes out"


def test_what_writes_parquet_is_keyed_by_the_version_that_does() -> None:
    """Equal rows give equal bytes only under one pyarrow."""
    for one in (*BUILD.stages, continue_pretraining):
        code = fingerprint(one.function.__module__, one.function.__qualname__, one.programs).code
        assert ("storage.documents.parquet_writer" in code) == ("pyarrow" in one.libraries), one.name


def test_what_separates_letters_and_words_is_keyed_by_the_tables_that_do() -> None:
    """Python 3.11 has Unicode 14, 3.12 has 15: a letter of the one is none of the other."""
    for one in BUILD.stages:
        code = fingerprint(one.function.__module__, one.function.__qualname__, one.programs).code
        tells = any(name.startswith(("tasks.words.", "tasks.deduplicate.shingles.")) for name in code)
        assert not tells or "unicode" in one.libraries, one.name


_STEPS = {  # what a reader looks for -> where it is, and the command that they begin at
    "the attention": ("flows.cli.run", "model.transformer"),
    "the loss": ("flows.cli.run", "model.loss"),
    "the banding of MinHash": ("flows.cli.run", "tasks.deduplicate.signatures"),
    "the promotion gate": ("flows.cli.retrain", "tasks.retrain.gate"),
}


@pytest.mark.parametrize("what", _STEPS)
def test_from_a_command_to_what_does_the_work_are_five_files_at_most(what: str) -> None:
    """Along imports, and from a stage to the program that it starts."""
    import grimp

    graph = grimp.build_graph("flows", "tasks", "model", "storage")
    for stage in BUILD.stages:
        for program in stage.programs:
            graph.add_import(importer=stage.function.__module__, imported=program)
    chain = graph.find_shortest_chain(*_STEPS[what])
    assert chain is not None and len(chain) <= 5, chain
