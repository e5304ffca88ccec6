"""The reason for a build: the difference to the closest of the earlier ones, in lines for a person."""

import os
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import Field

from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.engine.builder import Builder
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Execution, Summary
from tasks.engine.decide import identify
from tasks.engine.planner import Options, Planner
from tasks.engine.stage import UNICODE, Pending, engine_in_force, is_same, stage


class PaintConfig(StageConfig):
    red: int = Field(0, description="A share.")
    green: int = Field(0, description="A share.")
    blue: int = Field(0, description="A share.")
    tones: tuple[int, ...] = Field((), description="Shades.")


def places(config: Any) -> dict[str, str]:
    """What lies outside the store: the names in the environment, each as it is."""
    return dict(pair.split("=") for pair in os.environ.get("TOY_PLACES", "").split())


@stage("paint", parts=("paint",), observe=places)
def paint(config: PaintConfig, *, context: Context) -> Summary:
    (context.part("paint") / "paint.txt").write_text(f"{config.red} {config.green} {config.blue}")
    return {}


def build(home: Path, **shares: int) -> None:
    with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
        paint(PaintConfig(**shares))


def why(home: Path, **shares: int) -> tuple[str, ...]:
    planner = Planner(Store(home), Options())
    with engine_in_force(planner):
        paint(PaintConfig(**shares))
    ((_, decision),) = planner.decisions
    return decision.why


def test_the_reason_comes_from_the_closest_build_wherever_it_is_among_the_earlier_ones(home: Path) -> None:
    """One field away are the first, the middle and the last of three builds; each is found."""
    build(home, red=1, green=1)
    build(home, red=5, green=5, blue=5)
    build(home, red=9, green=9)
    assert why(home, red=1, green=1, blue=1) == ("config paint.blue: 0 -> 1",)
    assert why(home, red=5, green=5) == ("config paint.blue: 5 -> 0",)
    assert why(home, red=9, green=9, blue=1) == ("config paint.blue: 0 -> 1",)


def test_of_builds_as_close_the_newest_decides(home: Path) -> None:
    build(home, red=1)
    build(home, red=2)
    assert why(home, red=3) == ("config paint.red: 2 -> 3",)


def test_a_build_with_fewer_kinds_of_differences_is_closer_than_one_with_fewer_lines(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three fields of the config, or one field and the source: the first is one reason, the second two."""
    build(home, red=1, green=1, blue=1)
    monkeypatch.setenv("TOY_PLACES", "here=old")
    build(home, red=2, green=2, blue=3)
    monkeypatch.delenv("TOY_PLACES")
    assert sorted(why(home, red=2, green=2, blue=2)) == [
        "config paint.blue: 1 -> 2",
        "config paint.green: 1 -> 2",
        "config paint.red: 1 -> 2",
    ]


def test_a_source_is_new_changed_or_gone_and_of_many_the_first_few_are_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_PLACES", "a=1 b=1 c=1")
    build(home)
    monkeypatch.setenv("TOY_PLACES", "b=2 c=1 d=1")
    assert why(home) == ("source a gone", "source b changed", "source d new")
    monkeypatch.setenv("TOY_PLACES", "b=2 c=2 d=1 e=1")
    assert why(home) == ("source a gone", "source b changed", "source c changed", "source ... and 2 more")


def test_a_named_stage_is_another_name_for_what_the_first_has_built(home: Path) -> None:
    again = paint.named("again")
    build(home, red=1)
    with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
        again(PaintConfig(red=1))
    assert [(result.stage, result.outcome) for result in builder.results] == [("again", "reused")]


def test_outputs_are_the_same_where_both_are_there_and_equal(home: Path) -> None:
    with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
        one, other, equal = (paint(PaintConfig(red=red)) for red in (1, 2, 1))
    assert is_same(one, equal) and not is_same(one, other)
    assert not any(is_same(*pair) for pair in ((one, Pending("paint")), (Pending("paint"), one)))


def test_only_what_was_damaged_is_repaired(home: Path) -> None:
    def repairs(**shares: int) -> bool:
        planner = Planner(Store(home), Options())
        with engine_in_force(planner):
            paint(PaintConfig(**shares))
        return planner.decisions[0][1].repairs

    assert not repairs(red=1)
    build(home, red=1)
    assert not repairs(red=1) and not repairs(red=2)
    for path in home.glob("store/parts/paint/*/*/paint.txt"):
        path.unlink()
    assert repairs(red=1) and not repairs(red=2)


def test_a_stage_takes_as_many_artifacts_as_it_reads(home: Path) -> None:
    with pytest.raises(RuntimeError, match="stage paint: no engine"):
        paint(PaintConfig())
    with pytest.raises(TypeError, match="paint takes 0 artifacts, not 1"):
        paint(PaintConfig(), cast(Artifact, None))


@stage("spell", parts=("spell",), libraries=(UNICODE,))
def spell(config: PaintConfig, *, context: Context) -> Summary:
    return {}


@stage("etch", parts=("etch",), libraries=("pyarrow", "numpy"))
def etch(config: PaintConfig, *, context: Context) -> Summary:
    return {}


def test_of_a_library_that_writes_its_version_into_files_each_release_is_another_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def keyed(**versions: str) -> tuple[str, Any]:
        monkeypatch.setattr("importlib.metadata.version", versions.__getitem__)
        identity = identify(etch, PaintConfig(), {})
        return identity.key, identity.libraries

    key, libraries = keyed(pyarrow="25.0.1", numpy="2.4.1")
    assert libraries == {"pyarrow": "25.0.1", "numpy": "2.4"}
    assert keyed(pyarrow="25.0.1", numpy="2.4.2")[0] == key
    assert keyed(pyarrow="25.0.2", numpy="2.4.1")[0] != key


def test_another_version_of_unicode_is_another_key_where_letters_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [identify(one, PaintConfig(), {}).key for one in (spell, etch)]
    monkeypatch.setattr("unicodedata.unidata_version", "99.0.0")
    assert [identify(one, PaintConfig(), {}).key == key for one, key in zip((spell, etch), keys, strict=True)] == [
        False,
        True,
    ]
