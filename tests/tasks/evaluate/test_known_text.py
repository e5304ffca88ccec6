"""Forgetting: how much worse models are on text that the initial one knew, from files of any form."""

import gzip
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_model import LocalContext, artifact, make_text, with_pairs, write_corpus, write_model, write_pairs
from tiny_model import write_tokenizer as write_tokens

from model.likelihood import score_documents
from model.transformer import load_model
from storage.errors import DataError
from storage.store.artifacts import Artifact
from tasks.evaluate.config import EvaluateConfig, KnownText
from tasks.evaluate.known import check_known, observe_known, read_known
from tasks.evaluate.stage import evaluate
from tasks.statistics.compare import Answers, compare
from tasks.tokenize.tokenizer import load_tokenizer

TEXTS = [make_text(1_000 + number) for number in range(30)]
SETTINGS: dict[str, Any] = {"items": 10, "heldout_bytes": 4_000, "baseline_bytes": 4_000, "bootstrap_draws": 200}
SETTINGS |= {"spans": 0, "threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    root = tmp_path_factory.mktemp("world")
    return {
        "base": write_model(root / "base", seed=1),
        "tuned": write_model(root / "tuned", seed=2),
        "tokenizer": write_tokens(root / "tokenizer"),
        "clean": with_pairs(write_corpus(root / "documents"), write_pairs(root / "pairs")),
        "initial": write_model(root / "initial", seed=3),
    }


def as_lines(path: Path, texts: list[str] = TEXTS) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def measured(world: dict[str, Artifact], root: Path, **settings: Any) -> tuple[dict[str, Any], dict[tuple, dict]]:
    known = (KnownText(path=str(as_lines(root / "known.jsonl"))),)
    config = EvaluateConfig(**SETTINGS | {"known_text": known} | settings)
    summary = evaluate.function(config, *world.values(), context=LocalContext(root / "out"))
    lines = json.loads((root / "out/scores/scores.json").read_bytes())
    return summary, {(line["metric"], line["model"]): line for line in lines if line["name"] == "known_text"}


def bits_per_byte(model: Artifact, tokenizer: Artifact) -> float:
    encode = load_tokenizer(tokenizer["tokenizer"].path).encode
    nats = score_documents(load_model(model["model"].path), [[0, *encode(text).ids] for text in TEXTS])
    return sum(nats) / math.log(2) / sum(len(text.encode()) for text in TEXTS)


def test_forgetting_is_the_difference_from_the_initial_model(world: dict[str, Artifact], tmp_path: Path) -> None:
    summary, found = measured(world, tmp_path)
    bits = {name: bits_per_byte(world[name], world["tokenizer"]) for name in ("initial", "base", "tuned")}
    rows = pq.read_table(tmp_path / "out/items/items.parquet").to_pylist()
    rows = [row for row in rows if (row["name"], row["metric"]) == ("known_text", "bits_per_byte")]

    def amounts(model: str) -> Answers:
        own = [row for row in rows if row["model"] == model]
        return Answers(np.array([row["amount"] for row in own]), np.array([row["weight"] for row in own]))

    documents = [row["document"] for row in rows if row["model"] == "base"]
    as_recipe: dict[str, Any] = {"kind": "ratio", "higher_is_better": False, "draws": SETTINGS["bootstrap_draws"]}
    for model in ("base", "tuned"):
        line = found["forgetting", model]
        assert line["value"] == pytest.approx(bits[model] - bits["initial"], rel=1e-3)
        assert line["low"] < line["value"] < line["high"] and line["items"] == len(TEXTS)
        paired = compare(amounts("initial"), amounts(model), documents, **as_recipe)
        assert (line["low"], line["high"]) == pytest.approx((paired.low, paired.high), rel=1e-3)
        assert found["bits_per_byte", model]["value"] == pytest.approx(bits[model], rel=1e-4)
        assert found["bits_per_byte", model]["baselines"]["initial"] == pytest.approx(bits["initial"], rel=1e-4)
    line = found["forgetting", "tuned"]
    figures = [summary[f"forgetting_tuned{end}"] for end in ("", "_low", "_high")]
    assert figures == [line["value"], line["low"], line["high"]]
    said = evaluate.about.at_end(artifact("evaluate"), summary)
    assert said[0][0] == "forgetting" and f"{line['value']:+.3g} bits per byte of known text" in said[0][1]


def test_without_another_model_the_base_is_what_was_known(world: dict[str, Artifact], tmp_path: Path) -> None:
    """As where fine-tuning alone is done; and a model that is the base is not asked twice."""
    bits = {name: bits_per_byte(world[name], world["tokenizer"]) for name in ("base", "tuned")}
    found = {}
    for name, initial in (("none", {}), ("same", {"initial": world["base"]})):
        (tmp_path / name).mkdir()
        some = {key: value for key, value in world.items() if key != "initial"} | initial
        found[name] = measured(some, tmp_path / name)[1]
    assert found["none"] == found["same"]
    assert found["none"]["forgetting", "base"]["value"] == 0
    assert found["none"]["forgetting", "tuned"]["value"] == pytest.approx(bits["tuned"] - bits["base"], rel=1e-3)


def test_nothing_is_measured_where_no_text_is_named(world: dict[str, Artifact], tmp_path: Path) -> None:
    summary, found = measured(world, tmp_path, known_text=())
    assert not found and not any(name.startswith(("known", "forgetting")) for name in summary)
    assert evaluate.about.at_end(artifact("evaluate"), summary) == []


# Files ----------------------------------------------------------------------------------------------------------


def config_of(path: Path, **settings: Any) -> EvaluateConfig:
    field = {"text_field": settings.pop("text_field")} if "text_field" in settings else {}
    return EvaluateConfig(known_text=(KnownText(path=str(path), **field),), **settings)


def texts_of(config: EvaluateConfig, scratch: Path) -> list[str]:
    return [document.text for document in read_known(config, scratch).documents]


def _folder(path: Path) -> Path:
    path.mkdir()
    for number, text in enumerate(TEXTS):
        (path / f"{number}.txt").write_text(text)
    return path


def _parquet(path: Path) -> Path:
    pq.write_table(pa.table({"body": [{"text": text} for text in TEXTS]}), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def _packed(path: Path) -> Path:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in reversed(TEXTS))
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return path.with_suffix(".jsonl.gz")


@pytest.mark.parametrize(("write", "field"), [(_folder, "text"), (_parquet, "body.text"), (_packed, "text")])
def test_the_same_texts_are_sampled_from_files_of_any_form(
    write: Callable[[Path], Path], field: str, tmp_path: Path
) -> None:
    lines = as_lines(tmp_path / "known.jsonl")
    for amount in (10**6, 5_000):
        config = config_of(write(tmp_path / f"other{amount}"), text_field=field, known_bytes=amount)
        found = texts_of(config, tmp_path)
        assert found == texts_of(config_of(lines, known_bytes=amount), tmp_path)
        assert 2 < len(found) < len(TEXTS) if amount == 5_000 else sorted(found) == sorted(TEXTS)


def test_a_large_text_gives_its_beginning_and_a_long_file_the_first_by_rank(tmp_path: Path) -> None:
    """Cut back several times while it is read, the sample is the one that all texts held at once would give."""
    many = [make_text(number) + " " + "€" * (number % 9_000) for number in range(600)]
    found = texts_of(config_of(as_lines(tmp_path / "many.jsonl", many), known_bytes=20_000), tmp_path)
    backwards = texts_of(config_of(as_lines(tmp_path / "backwards.jsonl", many[::-1]), known_bytes=20_000), tmp_path)
    assert found == backwards and all(any(text.startswith(one) for text in many) for one in found)
    assert 20_000 <= sum(len(text.encode()) for text in found) + 3 * len(found) < 30_003 + 3 * len(found)
    other = texts_of(config_of(tmp_path / "many.jsonl", known_bytes=20_000, seed=5), tmp_path)
    assert other != found


def test_it_is_observed_by_content(tmp_path: Path) -> None:
    first = as_lines(tmp_path / "known.jsonl")
    (tmp_path / "moved").mkdir()
    shutil.copy(first, tmp_path / "moved/known.jsonl")
    here, there = (KnownText(path=str(folder / "known.jsonl")) for folder in (tmp_path, tmp_path / "moved"))
    assert observe_known((here,)) == observe_known((there,)) and len(observe_known((here,))) == 1
    assert config_of(first).identity() == config_of(tmp_path / "moved/known.jsonl").identity()
    as_lines(tmp_path / "moved/known.jsonl", TEXTS[:-1])
    assert observe_known((here,)) != observe_known((there,))


def test_bad_records_are_counted_and_blank_ones_are_none(tmp_path: Path) -> None:
    path = tmp_path / "known.jsonl"
    rows = [{"text": TEXTS[0]}, {"text": None}, {"text": "  "}, {"text": 5}, {"other": "x"}, {"text": "\ud800"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    known = read_known(config_of(path), tmp_path)
    assert [document.text for document in known.documents] == [TEXTS[0]]
    said = "\n".join(known.notices)
    for reason in ("line 4: field 'text' is not text but int", "line 5: no field 'text'", "line 6: field 'text' holds"):
        assert reason in said
    assert "line 7: malformed JSON" in said


def test_what_holds_no_text_is_refused_before_training_is_paid_for(tmp_path: Path) -> None:
    path = as_lines(tmp_path / "known.jsonl")
    check_known(config_of(path), tmp_path)
    for call in (check_known, read_known):
        with pytest.raises(
            DataError, match=r"no text in the field 'body' .*no field 'body'.*known_text\.0\.text_field"
        ):
            call(config_of(path, text_field="body"), tmp_path)
    with pytest.raises(DataError, match=r"evaluate\.known_text\[0\]\.path: .*matches no file"):
        observe_known((KnownText(path=str(tmp_path / "gone.jsonl")),))


def test_a_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = _packed(tmp_path / "known")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"known_text\[0\]\.path: known\.jsonl\.gz, line \d+: .*how much is lost"):
        read_known(config_of(path), tmp_path)
