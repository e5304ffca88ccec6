"""The report of a run: it says what the store says, loads nothing, and shows any text."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from flows_html import Checked
from local_stages import STAGE_NAMES
from report_data import data_of, made_run, score_line
from support import digests, llmill, report_of

from flows.report.corpus import sources_of, vocabulary_of
from flows.report.drops import document_flow
from flows.report.page import render
from flows.report.run_data import RunData
from flows.report.summary import markdown_summary
from storage.documents import TRAIN
from storage.runs import find_run
from storage.tokens import TokenSet
from tasks.evaluate.score import Score
from tasks.tokenize.tokenizer import SPECIAL_TOKENS
from tasks.wording import as_per_cent, duration, figure

Smoke = tuple[Path, dict[str, Any]]
HOSTILE = "<script>alert('it ran')</script><img src=x onerror=alert(1)>"


def page_of(home: Path, run: str = "latest") -> Checked:
    """The report of a run, read strictly."""
    name = find_run(home, run)["run"]
    return Checked((home / "runs" / f"{name}.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(smoke: Smoke) -> Checked:
    return page_of(smoke[0])


def test_a_run_says_where_its_report_is(smoke: Smoke) -> None:
    home, result = smoke
    assert result["report"] == str(home / "runs" / f"{result['run']}.html")
    assert 20_000 < Path(result["report"]).stat().st_size < 500_000


def test_every_section_is_there(page: Checked) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert ids == ["plan", "documents", "quality", "tokenizer", "training", "scores", "samples", "time", "record"]
    for heading in ("Why deduplicate dropped", "Sources and licences", "Longest tokens", "Fine-tuning", "Recipe"):
        assert heading in page.text
    page.check_structure()


def test_nothing_is_loaded_and_the_policy_forbids_it(page: Checked, smoke: Smoke) -> None:
    page.check_nothing_is_loaded()
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    style = "".join(text for element, text in page.texts if element == "style")
    assert "url(" not in style and "@import" not in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"style-src 'sha256-{digest}'" in policy
    assert "script-src" not in policy and "unsafe" not in policy


def test_every_score_stands_there_with_its_interval_and_baselines(page: Checked, smoke: Smoke) -> None:
    home, result = smoke
    folder = home / "store/parts/evaluate/scores" / digests(result)["evaluate/scores"]
    scores = json.loads((folder / "scores.json").read_bytes())
    assert len(scores) > 20
    for score in scores:
        assert figure(score["value"]) in page.text, score
        assert f"{figure(score['low'])} to {figure(score['high'])}" in page.text, score
        for value in score["baselines"].values():
            assert figure(value) in page.text, score
    base = next(score for score in scores if score["name"] == "heldout")
    tile = page.text.index("Text it has never seen base")
    assert figure(base["value"]) in page.text[tile : tile + 60]
    assert "not better than trigram" in page.text  # smoke's text is made by a grammar


def test_counts_digests_and_times_are_those_of_the_run(page: Checked, smoke: Smoke) -> None:
    for stage in smoke[1]["stages"]:
        assert duration(stage["seconds"]) in page.text
        for part in stage["artifact"]["parts"].values():
            assert part["digest"] in page.text
        if stage["stage"] in ("collect", "deduplicate", "filter"):
            summary = stage["artifact"]["summary"]
            assert f"{figure(summary['kept'])} kept, {figure(summary['dropped'])} dropped" in page.text
    assert f"Time {duration(smoke[1]['seconds'])} {len(STAGE_NAMES)} stages built" in page.text


def test_reasons_add_up_and_their_examples_are_dropped_documents(smoke: Smoke) -> None:
    flow = {stage.stage: stage for stage in document_flow(data_of(smoke[0]))}
    for stage in flow.values():
        assert sum(reason.count for reason in stage.reasons) == stage.dropped + stage.quarantined
    assert [reason.name for reason in flow["deduplicate"].reasons] == ["exact", "near"]
    for reason in (*flow["deduplicate"].reasons, *flow["filter"].reasons):
        assert 0 < len(reason.examples) <= min(2, reason.count)
        assert all(example.text and example.note for example in reason.examples)
    assert all(example.twin for example in flow["deduplicate"].reasons[1].examples)


def test_languages_add_up_to_what_the_filter_read(page: Checked, smoke: Smoke) -> None:
    data = data_of(smoke[0])
    table = data.section("filter").tables[0]
    (row,) = table.rows
    summary = data.summary("filter")
    assert row[:4] == ("en", *(figure(summary[name]) for name in ("read", "kept", "dropped")))
    assert "Languages that the filter read" in page.text and "Languages that the sources state" in page.text
    assert " ".join(row[:4]) in page.text


def test_histograms_hold_every_document_that_the_filter_read(smoke: Smoke) -> None:
    data = data_of(smoke[0])
    histograms = data.section("filter").histograms
    assert {"bytes", "words", "language_score"} <= {one.signal for one in histograms}
    for one in histograms:
        assert sum(one.counts) + one.zeros == one.documents == data.summary("filter")["read"]
        assert one.edges[0] <= one.median <= one.edges[-1] or one.zeros


def test_sources_hold_every_token_and_byte(smoke: Smoke) -> None:
    data = data_of(smoke[0])
    (source,) = sources_of(data).sources
    tokens = data.summary("tokenize")
    marks = tokens["train_documents"] + tokens["heldout_documents"]
    assert source.tokens == tokens["train_tokens"] + tokens["heldout_tokens"] - marks
    assert source.bytes == tokens["train_bytes"] + tokens["heldout_bytes"]
    assert sum(count for _, count in source.licenses) == marks


def test_languages_hold_every_token_and_byte_and_unused_tokens_are_counted(page: Checked, smoke: Smoke) -> None:
    data = data_of(smoke[0])
    found, vocabulary = sources_of(data), vocabulary_of(data)
    (source,) = found.sources
    assert sum(language.tokens for language in found.languages) == source.tokens
    assert sum(language.bytes for language in found.languages) == source.bytes
    assert "Bytes per token by language" in page.text
    tokens = data.last("tokens")
    assert tokens is not None and vocabulary is not None
    training = TokenSet(tokens.path, TRAIN)
    seen = set(training.read(0, training.tokens).tolist())
    assert vocabulary.unused == len(set(range(len(SPECIAL_TOKENS), vocabulary.size)) - seen) > 0
    assert "tokens that no training text has" in page.text


def test_the_command_writes_the_same_bytes_again(smoke_home: Path, smoke: Smoke) -> None:
    path = smoke_home / "runs" / f"{smoke[1]['run']}.html"
    before = path.read_bytes()
    path.unlink()
    result = llmill("report", home=smoke_home)
    assert result.stdout.strip() == str(path), result.stderr
    assert path.read_bytes() == before
    assert llmill("report", "no-such-run", home=smoke_home).returncode == 2


def test_a_run_that_reuses_all_has_a_report_too(smoke_home: Path) -> None:
    result = report_of(llmill("run", "smoke", "--json", home=smoke_home))
    page = page_of(smoke_home, result["run"])
    assert result["status"] == "reused" and f"0 stages built, {len(STAGE_NAMES)} reused" in page.text
    assert "built in" in page.text  # the time that each stage took then


def test_a_part_that_is_gone_leaves_its_section_out(smoke_home: Path) -> None:
    for folder in (smoke_home / "store/parts/evaluate/scores", smoke_home / "store/parts/filter/signals"):
        folder.rename(folder.with_name("gone"))
    page = Checked(render(data_of(smoke_home)))
    assert "All 28 scores" not in page.text and "Length and quality" not in page.text
    assert "Pretraining" in page.text


def test_hostile_text_comes_out_as_text_and_a_failed_run_has_a_report(home: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(12):
        (texts / f"{number}.txt").write_text(f"{HOSTILE} {number}\n")
    recipe = tmp_path / "hostile.yaml"
    description = json.dumps("</style></p>" + HOSTILE)
    recipe.write_text(
        f"collect: {{heldout_fraction: 0, files: [{{path: texts, license: {json.dumps(HOSTILE)}}}]}}\n"
        f"release: {{name: hostile, description: {description}}}\n"
    )
    result = llmill("run", str(recipe), "--plain", "--set", "filter.min_words=9", home=home)
    assert result.returncode == 2
    path = Path(re.search(r"^report +(.+)$", result.stdout, re.MULTILINE)[1])  # type: ignore[index]
    page = Checked(path.read_text(encoding="utf-8"))
    page.check_nothing_is_loaded()
    page.check_structure()
    assert "Why it failed filter: no document is left" in page.text
    assert "This run did not come to a model" in page.text
    assert f"{HOSTILE} 1" in page.text  # a document, among the examples of deduplicate
    assert page.text.count("not reached") + page.text.count("skipped") >= 6


def test_many_benchmarks_references_calibration_and_memorisation(home: Path) -> None:
    lines = [
        score_line(f"blimp/part_{number:02}", "acc", model, 0.5 + number / 100)
        for number in range(30)
        for model in ("base", "tuned")
    ]
    reference = [{"model": "GPT-2 124M", "value": 0.412, "protocol": "the same", "source": HOSTILE}]
    lines += [score_line("arc_easy", "acc", model, 0.3, references=reference, unknown=1) for model in ("base", "tuned")]
    lines += [score_line("lambada", "acc", model, None, note="the file is not there") for model in ("base", "tuned")]
    lines += [{"no": "score"}]
    bins = [
        {
            "model": model,
            "low": low / 4,
            "high": (low + 1) / 4,
            "confidence": low / 4 + 0.1,
            "accuracy": low / 4,
            "tokens": 9,
        }
        for model in ("base", "tuned")
        for low in range(4)
    ]
    canary = {"model": "base", "repeats": 8, "count": 5, "reproduced": 3, "exposure_mean": 7.25, "exposure_chance": 1.4}
    span = {"model": "base", "split": "train", "spans": 200, "reproduced": 2, "low": 0.003, "high": 0.036}
    files = {
        "scores.json": lines,
        "calibration.json": {"bins": bins, "expected_calibration_error": {"base": 0.0437, "tuned": 0.0512}},
        "memorisation.json": {"canaries": [canary], "spans": [span], "more": 1},
    }
    page = Checked(render(made_run(home, files)))
    page.check_structure()
    page.check_nothing_is_loaded()
    assert "All 64 scores" in page.text and "the file is not there" in page.text
    assert "GPT-2 124M" in page.text and "41.2 %" in page.text
    assert "0.0437" in page.text and "7.25" in page.text and "0.3 % to 3.6 %" in page.text
    shown = page.text[page.text.index("Share of right answers") : page.text.index("Base against")]
    assert "arc_easy" in shown and shown.count("blimp/part_") < 10
    against = page.text[page.text.index("Base against") :]
    assert "+10 points (+5 to +15)" in against and "fine-tuned" in against


@pytest.mark.parametrize("broken", ["[1, 2", {"a": 1}, [{"name": 3}], None])
def test_scores_of_another_form_do_no_harm(home: Path, broken: Any) -> None:
    files = {"scores.json": broken, "calibration.json": broken, "memorisation.json": broken}
    assert 'id="scores"' not in render(made_run(home, files))


def test_the_verdict_follows_the_interval(home: Path) -> None:
    values = {"arc": (0.40, "better than chance"), "boolq": (0.26, "not clearly better"), "piqa": (0.2, "not better")}
    headline = {"name": "choice", "metric": "accuracy_mutual_information"}
    for number, (value, verdict) in enumerate(values.values()):
        lines = [{**score_line("x", "acc", "tuned", value), **headline}]
        data = made_run(home / str(number), {"scores.json": lines})
        text = markdown_summary(data.store, data.run, Path("report.html"), None)
        assert verdict in text and as_per_cent(value) in text


def test_a_finding_has_no_verdict() -> None:
    """`null` says that neither way is better."""
    line = {"name": "canaries/repeats=4", "model": "base", "metric": "exposure", "value": 7, "low": 6, "high": 8}
    line["baselines"] = {"chance": 1.4}
    assert Score.model_validate(line | {"higher_is_better": None}).against_baselines == "alone"
    assert Score.model_validate(line | {"higher_is_better": False}).against_baselines == "worse"


@pytest.mark.parametrize(
    ("candidate", "decision", "colour", "whose"),
    [
        ("1", "promoted", "promoted", "the candidate"),
        ("1", "first", "promoted", "the candidate"),
        ("1", "kept", "kept", "the candidate"),
        ("1", "declined", "kept", "the candidate"),
        ("2", "kept", "kept", "the candidate, which is the champion itself"),
    ],
)
def test_a_retraining_shows_its_verdict_first_and_whose_figures_it_has(
    candidate: str, decision: str, colour: str, whose: str, smoke: Smoke
) -> None:
    data = data_of(smoke[0])
    verdict = {"decision": decision, "reasons": ["so it is"], "candidate": candidate, "champion": "2"}
    retraining = RunData(data.store, {**data.run, "pipeline": "retrain", "verdict": verdict})
    html = render(retraining)
    page = Checked(html)
    page.check_structure()
    assert f"completed {decision} 2026-" in page.text
    assert f'<span class="status {colour}">{decision}</span>' in html and f".status.{colour}" in html
    assert f"The scores are those of {whose}." in page.text and f"All figures are those of {whose}." in page.text
    assert "Text it has never seen candidate, base" in page.text
    assert "candidate, base" in markdown_summary(data.store, retraining.run, Path("report.html"), None)
    ordinary = Checked(render(data)).text
    assert "candidate, base" not in ordinary and "the candidate" not in ordinary


def test_a_retraining_shows_how_people_have_voted(smoke: Smoke) -> None:
    data = data_of(smoke[0])
    counts = {"votes": 12, "wins": 10, "losses": 1, "ties": 1, "both_bad": 0}
    vote = {"model": "ab" * 32, "champion": True, "points": 1182.4, "low": 1050.0, "high": 1391.2, **counts}
    verdict = {"decision": "kept", "reasons": ["so it is"], "candidate": "1", "champion": "2", "votes": [vote]}
    page = Checked(render(RunData(data.store, {**data.run, "pipeline": "retrain", "verdict": verdict})))
    page.check_structure()
    assert "abababababab (champion) 1182 1050 to 1391 12 10 1 1 0" in page.text


def test_price_per_hour_becomes_a_cost(smoke: Smoke) -> None:
    data = data_of(smoke[0])
    assert "Time and cost" not in render(data)
    recipe = {**data.recipe, "execution": {**data.recipe["execution"], "price_per_hour": 3600.0}}
    page = Checked(render(RunData(data.store, {**data.run, "recipe": recipe})))
    assert f"{data.run['seconds']:.2f} at a price of 3,600 an hour" in page.text


def test_a_url_in_the_recipe_shows_no_password(smoke: Smoke) -> None:
    data = data_of(smoke[0])
    text = render(RunData(data.store, {**data.run, "error": "cannot reach https://ada:secret@example.org/data"}))
    assert "ada:secret" not in text and "https://example.org/data" in text


def test_what_went_wrong_in_training_stands_on_the_curve_and_in_the_notices(smoke_home: Path) -> None:
    """Rates that are far too high: the loss rises while they do."""
    settings = ("matrix_rate=1", "embedding_rate=1", "warmup_share=0.5", "decay_share=0.3", "spike_factor=1.01")
    given = [argument for setting in settings for argument in ("--set", f"pretrain.{setting}")]
    result = llmill("run", "smoke", "--plain", "--json", "--to", "pretrain", *given, home=smoke_home)
    report = report_of(result)
    said = re.compile(
        r"step \d+: loss [\d.]+ is a spike: the median of the last \d+ is [\d.]+: back to step \d+, at 0\.5"
    )
    assert said.search(" ".join(result.stderr.split())), "the terminal's notice"
    page = Path(report["report"]).read_text(encoding="utf-8")
    assert any(said.match(title) for title in re.findall(r"<title>([^<]*)</title>", page)), "on the curve"
    (pretrain,) = (stage for stage in report["stages"] if stage["stage"] == "pretrain")
    assert said.search(str(pretrain["artifact"]["summary"]["notices"])), "which Prefect's table of the stage shows"
