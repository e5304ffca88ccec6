"""The engine's promises on what is damaged: it is built again, alone, and comes out the same."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from toy_stages import UniqueConfig, outcomes, plan, run

from storage.store.local import Store


def test_what_is_damaged_is_built_whatever_its_inputs_come_out_as(home: Path) -> None:
    results = run(home)
    changed = UniqueConfig(min_letters=2)
    assert results["count"].artifact is not None
    (lost,) = (part.path for part in results["count"].artifact.parts.values())
    shutil.rmtree(lost)
    will, why = plan(home, changed)["count"]
    assert will == "build" and "missing" in why[0] and why[1] == "input unique/words may change"
    run(home, unique_config=UniqueConfig(min_letters=3))
    assert plan(home, changed)["count"][0] == "maybe", "another result is intact, and it may be that one"


def test_where_the_newest_result_is_damaged_an_older_one_may_be_the_one(home: Path) -> None:
    run(home)
    results = run(home, unique_config=UniqueConfig(min_letters=3))
    assert results["count"].artifact is not None
    shutil.rmtree(results["count"].artifact["count"].path)
    assert plan(home, UniqueConfig(min_letters=2))["count"][0] == "maybe"


@pytest.mark.parametrize("harm", ["delete part", "delete file", "truncate", "flip byte", "manifest"])
def test_each_damaged_part_is_rebuilt_alone_with_an_equal_digest(home: Path, harm: str) -> None:
    whole = run(home)
    parts = [(name, part) for name, result in whole.items() if result.artifact for part in result.artifact.parts]
    for name, part_name in parts:
        artifact = whole[name].artifact
        assert artifact is not None
        part = artifact[part_name]
        file = part.files[0].path
        if harm == "delete part":
            subprocess.run(["rm", "-rf", str(part.path)], check=True)
        elif harm == "delete file":
            file.unlink()
        elif harm == "manifest":
            (home / "store" / "artifacts" / f"{artifact.digest}.json").write_text("{")
        else:
            data = file.read_bytes()
            file.chmod(0o644)
            file.write_bytes(data[:-1] if harm == "truncate" else bytes([data[0] ^ 1]) + data[1:])
        planned = plan(home)[name]
        assert planned[0] == "build" and ("damaged" in planned[1][0] or "missing" in planned[1][0])
        healed = run(home)
        assert outcomes(healed) == {other: "built" if other == name else "reused" for other in whole}
        assert healed[name].artifact == artifact


def test_touching_a_published_file_rebuilds_nothing(home: Path) -> None:
    artifact = run(home)["words"].artifact
    assert artifact is not None
    artifact["words"].files[0].path.touch()
    assert set(outcomes(run(home)).values()) == {"reused"}


def test_damage_that_verify_finds_is_healed_by_the_next_run(home: Path) -> None:
    artifact = run(home)["words"].artifact
    assert artifact is not None
    file = artifact["words"].files[0].path
    status = file.stat()
    file.chmod(0o644)
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    store = Store(home)
    assert store.artifact_damage(artifact) == [] and store.artifact_damage(artifact, full=True)
    assert outcomes(run(home))["words"] == "built"


def test_a_build_record_that_is_not_whole_counts_as_none(home: Path) -> None:
    run(home)
    for record in (home / "builds" / "unique").glob("*.json"):
        record.write_text('{"format": 1}')
    assert outcomes(run(home)) == {"words": "reused", "unique": "built", "count": "reused"}
