"""The stage filter: what is dropped and why, what is edited, what is computed again."""

from pathlib import Path

import pytest
from document_sets import rows_of, run, source, texts_of, training
from pydantic import ValidationError

from storage.errors import DataError
from tasks.filter import FilterConfig, filter_documents
from tasks.filter.redact import EMAIL, PHONE

GOOD = (
    "The reader opens the file and returns the rows that have a date, in the order of their keys. "
    "A row without a date is kept in a list of its own, to be checked by a person with time to spare."
)
BRIEF = "This text is too short to keep."
NOTHING = FilterConfig(preset="none")
DOCSTRINGS = FilterConfig(preset="docstrings")


def test_the_first_rule_that_fails_is_named_with_value_and_threshold(home: Path) -> None:
    repeated = "the model reads the table and writes one answer for each row. " * 30
    artifact, summary = run(home, filter_documents, DOCSTRINGS, training("Too short.", GOOD), training(repeated))
    assert texts_of(artifact) == [GOOD]
    ledger = [(row["rule"], row["value"], row["threshold"], row["shard"]) for row in rows_of(artifact, "ledger")]
    assert ledger[0] == ("min_words", 2.0, 8.0, 0)
    rule, value, threshold, shard = ledger[1]
    assert (rule, shard) == ("max_duplicate_5_grams", 1)
    assert value > threshold == 0.3
    counts = {name: summary[name] for name in ("read", "kept", "dropped", "quarantined", "dropped_min_words")}
    assert counts == {"read": 3, "kept": 1, "dropped": 2, "quarantined": 0, "dropped_min_words": 1}
    assert summary["kept_bytes"] == len(GOOD)


def test_signals_stand_beside_all_rows(home: Path) -> None:
    artifact, _ = run(home, filter_documents, DOCSTRINGS, training("Too short.", GOOD))
    signals = rows_of(artifact, "signals")
    assert [row["words"] for row in signals] == [2, 42]
    assert [row["language"] for row in signals][1] == "en"
    assert signals[1]["id"] == rows_of(artifact, "documents")[0]["id"]


def test_another_language_is_dropped(home: Path) -> None:
    german = "Der Leser öffnet die Datei und gibt die Zeilen zurück, die ein Datum haben, in der Folge ihrer Schlüssel."
    artifact, summary = run(home, filter_documents, DOCSTRINGS, training(german, GOOD))
    assert (texts_of(artifact), summary["dropped_min_language_score"]) == ([GOOD], 1)


def test_a_bound_itself_is_kept(home: Path) -> None:
    config = NOTHING.model_copy(update={"min_words": 2, "max_words": 3})
    artifact, _ = run(home, filter_documents, config, training("a", "a b", "a b c", "a b c d"))
    assert texts_of(artifact) == ["a b", "a b c"]


def test_a_changed_threshold_computes_no_signal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [training(BRIEF, GOOD), training(GOOD + " And more.")]
    before, _ = run(home, filter_documents, DOCSTRINGS, *shards)

    def forbidden(*_: object) -> dict[str, float]:
        raise AssertionError("a signal was computed again")

    monkeypatch.setattr("tasks.filter.signals.signals_of", forbidden)
    same, _ = run(home, filter_documents, FilterConfig(preset="docstrings", min_words=10), *shards)
    more, _ = run(home, filter_documents, FilterConfig(preset="docstrings", min_words=1), *shards)
    assert same["documents"].digest == before["documents"].digest, "nothing below would run again"
    assert texts_of(more) == [BRIEF, GOOD, GOOD + " And more."]
    with pytest.raises(AssertionError, match="computed again"):
        run(home, filter_documents, FilterConfig(preset="docstrings", line_min_words=3), *shards)


def test_edits_are_written_and_counted_and_an_untouched_shard_is_the_same_file(home: Path) -> None:
    config = NOTHING.model_copy(update={"redact": ("email",), "line_min_words": 2})
    shards = [training("mail me@corp.org now\nx", "nothing here"), training("left alone")]
    artifact, summary = run(home, filter_documents, config, *shards)
    assert texts_of(artifact) == ["mail email@example.com now", "nothing here", "left alone"]
    assert (summary["emails_redacted"], summary["lines_removed"], summary["dropped"]) == (1, 1, 0)
    original = source(home, *shards)
    assert artifact["documents"].files[1].digest == original["documents"].files[1].digest


def test_what_line_rules_leave_empty_is_put_down_to_the_one_that_took_most(home: Path) -> None:
    config = NOTHING.model_copy(update={"line_min_words": 2, "line_terminal_punctuation": True, "min_sentences": 2})
    texts = ["x.\nno end here", "two words. And more words.", "x.\ny.\nOne end. And two\nno", "", "Only one."]
    artifact, _ = run(home, filter_documents, config, training(*texts))
    assert texts_of(artifact) == ["two words. And more words."]
    ledger = [(row["rule"], row["value"]) for row in rows_of(artifact, "ledger")]
    assert ledger == [
        ("line_terminal_punctuation", 2),  # of 4 words it took 3
        ("line_terminal_punctuation", 4),  # the text had the sentences that it lacks now
        ("empty", 0),
        ("min_sentences", 1),
    ]


def test_nothing_left_names_the_rule_that_took_most_and_the_fix(home: Path) -> None:
    with pytest.raises(DataError, match=r"no document is left of 3; the rule min_words dropped 2 .*filter\.min_words="):
        run(
            home,
            filter_documents,
            DOCSTRINGS,
            training("a b", "c d"),
            training("the model reads the table and writes one answer for each row. " * 30),
        )


def test_the_result_does_not_depend_on_workers(tmp_path: Path) -> None:
    shards = [training(GOOD, "no"), training(GOOD + " mail: me@corp.org."), training("no")]
    digests = []
    for workers in (1, 2):
        home = tmp_path / str(workers)
        home.mkdir()
        digests.append(run(home, filter_documents, DOCSTRINGS, *shards, workers=workers)[0].digest)
    assert digests[0] == digests[1]


def test_pairs_are_redacted_as_documents_are_and_nothing_else_is_done_to_them(home: Path) -> None:
    pairs = [("Who is it?", "anna@firma.de"), ("x [1]", "No."), ("Call?", "(212) 555-7890 or anna@firma.de")]
    config = FilterConfig(preset="gopher", min_words=1)
    artifact, summary = run(home, filter_documents, config, training(GOOD), pairs=pairs)
    found = [(row["prompt"], row["answer"]) for row in rows_of(artifact, "pairs")]
    assert found == [("Who is it?", EMAIL), pairs[1], ("Call?", f"{PHONE} or {EMAIL}")]
    counts = {name: summary[name] for name in summary if name.startswith("pairs_")}
    assert counts == {
        "pairs_redacted": 2,
        "pairs_emails_redacted": 2,
        "pairs_phones_redacted": 1,
        "pairs_ips_redacted": 0,
        **{f"pairs_{kind}s_redacted": 0 for kind in ("card", "iban", "ssn", "secret")},
    }


def test_national_numbers_go_where_the_recipe_names_the_country(home: Path) -> None:
    number = "Llama al 912 34 56 78."
    for regions, expected in (((), number), (("ES",), f"Llama al {PHONE}.")):
        config = NOTHING.model_copy(update={"redact": ("phone",), "phone_regions": regions})
        artifact, _ = run(home, filter_documents, config, training(number), pairs=[("Call?", number)])
        assert texts_of(artifact) == [row["answer"] for row in rows_of(artifact, "pairs")] == [expected]
    with pytest.raises(ValidationError, match="'Spain' is not a country: give its ISO 3166 code"):
        FilterConfig(phone_regions=("Spain",))


def test_a_shard_of_pairs_in_which_nothing_is_found_is_linked(home: Path) -> None:
    pairs = [("What is it?", "A bridge.")]
    for config in (NOTHING, NOTHING.model_copy(update={"redact": ("email",)})):
        artifact, _ = run(home, filter_documents, config, training(GOOD), pairs=pairs)
        assert artifact["pairs"].digest == source(home, training(GOOD), pairs=pairs)["pairs"].digest
