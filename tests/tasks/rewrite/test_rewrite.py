"""The stage rewrite, beside a real server on the loopback: what it asks, how often, and what becomes of answers."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from document_sets import Rows, rows_of, source, training
from open_models import write_qwen
from pydantic import ValidationError
from support import ROOT, llmill, wait_until
from teacher_server import Said, reply, teacher_server

from model.transformer import load_model
from storage.documents import HELDOUT
from storage.errors import ConfigError, UnavailableError
from storage.store.artifacts import Artifact
from tasks.answer.prompt_form import starting_ids
from tasks.answer.stream import Answer as SaidAlone
from tasks.answer.stream import Sampling
from tasks.answer.template_form import needed_chat_form
from tasks.augment.config import AugmentConfig, Kind
from tasks.augment.stage import augment
from tasks.engine.builder import builder
from tasks.engine.context import Execution
from tasks.engine.listener import StageResult
from tasks.engine.stage import engine_in_force
from tasks.filter.config import FilterConfig
from tasks.filter.stage import filter_documents
from tasks.initial.teacher import take_rewriter
from tasks.rewrite.config import RewriteConfig
from tasks.rewrite.stage import OUTCOMES, rewrite

PROMPT = "In other words, please:\n\n{text}"
TEXTS = [f"The river, number {n}, is quiet and wide." for n in range(6)]
OTHERS = ["第一条河很安静，也很宽。", "แม่น้ำเงียบสงบและกว้าง", "नदी शांत और चौड़ी है।"]
SHARDS: tuple[Rows, ...] = ([*training(*TEXTS), ("Die Straße, geheim.", HELDOUT)], training(*OTHERS))


def said(prompt: str) -> Said:
    return 200, reply(f"In other words: {prompt.partition(chr(10) * 2)[2]}")


def config(address: str, **settings: Any) -> RewriteConfig:
    chosen = {"attempts": 3, "timeout_seconds": 20, "prompt": PROMPT} | settings
    return RewriteConfig(address=address, model="river", share=1.0, **chosen)


def rewritten(home: Path, settings: RewriteConfig, *shards: Rows) -> tuple[Artifact, StageResult]:
    documents = source(home, *(shards or SHARDS))
    with builder(home, Execution(workers=1, retries=0)) as engine, engine_in_force(engine):
        artifact = rewrite(settings, documents)
    assert isinstance(artifact, Artifact)
    return artifact, engine.results[-1]


def counts(result: StageResult) -> dict[str, int]:
    return {name: result.summary[name] for name in OUTCOMES if result.summary[name]}


def test_training_documents_are_asked_for_once_each_and_heldout_ones_never(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMILL_TEACHER_KEY", "a-secret-key")
    with teacher_server(said) as server:
        artifact, result = rewritten(home, config(server.address))
        assert counts(result) == {"rewritten": 9} and result.summary["tokens"] == 450
        assert Counter(prompt.partition("\n\n")[2] for prompt in server.asked) == Counter([*TEXTS, *OTHERS])
        assert server.keys == {"Bearer a-secret-key"} and server.most_at_once <= 4
        assert server.paths == {"/v1/chat/completions"}
        again, reused = rewritten(home, config(server.address, at_once=2))
        assert reused.outcome == "reused" and again.digest == artifact.digest
        _, other = rewritten(home, config(server.address, most_apart=4.0))
        assert other.outcome == "built" and len(server.asked) == 9, "what was answered is known whatever the settings"
    texts = {row["text"] for row in rows_of(artifact, "rewritten")}
    assert texts == {f"In other words: {text}" for text in (*TEXTS, *OTHERS)}
    secret = b"a-secret-key"
    assert not [path for path in home.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_key_with_blanks_around_it_is_used_without_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMILL_TEACHER_KEY", " a-secret-key\r\n")
    with teacher_server(said) as server:
        _, result = rewritten(home, config(server.address), training(TEXTS[0]))
        assert counts(result) == {"rewritten": 1} and server.keys == {"Bearer a-secret-key"}


@pytest.mark.parametrize(
    "key", ["a-secret\nkey", "a-secret key", "ein-Schlüssel-secret", "密钥-secret", "a-secret\x7f"]
)
def test_a_key_that_no_header_can_hold_is_refused_and_not_repeated(
    home: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("LLMILL_TEACHER_KEY", key)
    with teacher_server(said) as server:
        with pytest.raises(ConfigError, match="LLMILL_TEACHER_KEY: a key has printable") as refused:
            rewritten(home, config(server.address), training(TEXTS[0]))
        assert server.asked == [] and "secret" not in str(refused.value)


def test_what_is_no_good_answer_is_counted_by_its_kind(home: Path) -> None:
    replies = [
        (200, reply("", refusal="I cannot help with that.")),
        (200, reply("Sorry.", "content_filter")),
        (200, reply("The river, a long", "length")),
        (200, reply("No.")),
        (400, {"error": {"message": "too long"}}),
        (200, {"answer": "of no chat"}),
    ]
    by_text = dict(zip(TEXTS, replies, strict=True))
    with teacher_server(lambda prompt: by_text[prompt.partition("\n\n")[2]]) as server:
        artifact, result = rewritten(home, config(server.address), training(*TEXTS, "x" * 5000))
        assert len(server.asked) == 6
    assert counts(result) == {"refused": 2, "cut": 1, "unlike": 1, "failed": 2, "too_long": 1}
    assert rows_of(artifact, "rewritten") == []
    notice = " ".join(result.summary["notices"])
    assert "of 7 documents 0 were rewritten" in notice and "2 refused" in notice and "2 failed" in notice
    assert {row["why"] for row in rows_of(artifact, "ledger")} == {"", "HTTP 400", "no answer of a chat"}


def test_a_busy_server_is_asked_again_and_one_that_stays_so_ends_the_stage(home: Path) -> None:
    seen: Counter[str] = Counter()

    def busy(prompt: str) -> Said:
        seen[prompt] += 1
        return said(prompt) if seen[prompt] > 1 else (429, {})

    with teacher_server(busy) as server:
        _, result = rewritten(home, config(server.address), training(*TEXTS))
        assert counts(result) == {"rewritten": 6} and set(seen.values()) == {2}
    with teacher_server(lambda prompt: (503, {})) as server:
        with pytest.raises(UnavailableError, match="503"):
            rewritten(home, config(server.address, attempts=2), training("Another river, of which nobody asked."))
        assert len(server.asked) == 2
    with teacher_server(lambda prompt: (401, {})) as server:
        with pytest.raises(ConfigError, match="LLMILL_TEACHER_KEY"):
            rewritten(home, config(server.address), training("A third river, of which nobody asked."))
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "status, body, headers, what",
    [
        (302, {}, {"Location": "http://127.0.0.1:1/v1"}, "HTTP 302: it sends requests to another address"),
        (402, {}, {}, "HTTP 402: the account has no credit left"),
        (403, {}, {}, "HTTP 403: the key is wrong, or may not use the model"),
        (405, {}, {}, "HTTP 405: the address is wrong"),
        (418, {}, {}, "HTTP 418: no answer of a chat"),
        (429, {"error": {"code": "insufficient_quota"}}, {}, "HTTP 429: the account has no credit left"),
        (200, b"no gzip", {"Content-Encoding": "gzip"}, "no answer .*incorrect header check"),
    ],
)
def test_what_no_attempt_mends_ends_the_stage_at_once_with_the_address_and_what_to_do(
    home: Path, status: int, body: dict[str, Any] | bytes, headers: dict[str, str], what: str
) -> None:
    with teacher_server(lambda prompt: (status, body), headers=headers) as server:
        with pytest.raises(ConfigError, match=f"^augment.rewrite.address={server.address}/chat/completions: {what}"):
            rewritten(home, config(server.address), training(OTHERS[0]))
        assert len(server.asked) == 1


def test_a_name_that_nobody_has_and_an_address_that_is_none_are_named(home: Path) -> None:
    for address in ("http://no-such-host.invalid/v1", "http://a b/v1"):
        with pytest.raises((ConfigError, UnavailableError), match=f"^augment.rewrite.address={address}.*: no answer"):
            rewritten(home, config(address, attempts=1), training(OTHERS[0]))


def test_where_nobody_answers_the_stage_is_tried_again_and_then_says_so(home: Path) -> None:
    with teacher_server(said) as server:
        address = server.address
    documents, tries = source(home, training(OTHERS[0])), Execution(workers=1, retries=1, retry_delay_seconds=0.01)
    with builder(home, tries) as engine, engine_in_force(engine):
        with pytest.raises(UnavailableError, match=f"^augment.rewrite.address={address}.*refused.*server running"):
            rewrite(config(address, attempts=1), documents)
        assert engine.results[-1].attempts == 2


def test_a_count_of_tokens_that_cannot_be_is_not_known(home: Path) -> None:
    stated = [10**30, 2**63, 2**40, -1, True, 1.5, "50", float("nan"), [50]]
    texts = [*OTHERS, *TEXTS]
    usages = [{"usage": {"total_tokens": one}} for one in stated]
    by_text = {text: reply(f"Said: {text}") | usage for text, usage in zip(texts, usages, strict=True)}
    with teacher_server(lambda prompt: (200, by_text[prompt.partition("\n\n")[2]])) as server:
        _, result = rewritten(home, config(server.address), training(*texts))
    most = sum(len(PROMPT.replace("{text}", text).encode()) + 64 + 512 for text in texts)
    assert counts(result) == {"rewritten": 9} and result.summary["tokens"] == most, "as many as there may be"


def test_a_reply_that_is_too_deep_to_be_read_has_failed_alone(home: Path) -> None:
    with teacher_server(lambda prompt: (200, b"[" * 5_000_000)) as server:
        artifact, result = rewritten(home, config(server.address), training(TEXTS[0]))
    assert counts(result) == {"failed": 1}
    assert [row["why"] for row in rows_of(artifact, "ledger")] == ["no answer of a chat"]


DAMAGED: tuple[Any, ...] = (
    *({"tokens": 10**30}, {"tokens": -1}, {"tokens": True}, {"state": "said"}, {"state": "failed"}),
    *({"state": ["answered"]}, {"text": 7}, {"why": None}, {"text": "\udc80"}, {"more": 1}, [], b"[" * 100_000),
)


def test_known_answers_that_are_damaged_are_asked_for_again(home: Path) -> None:
    documents = training(*(f"{n}. {OTHERS[0]}" for n in range(len(DAMAGED))))
    with teacher_server(said) as server:
        rewritten(home, config(server.address), documents)
        whole = known_answers(home)
        for path, damaged in zip((home / "cache" / "rewritten").rglob("*.json"), DAMAGED, strict=True):
            changed = json.loads(path.read_bytes()) | damaged if isinstance(damaged, dict) else damaged
            path.write_bytes(changed if isinstance(changed, bytes) else json.dumps(changed).encode())
        _, result = rewritten(home, config(server.address, most_apart=4.0), documents)
        assert counts(result) == {"rewritten": len(DAMAGED)} and len(server.asked) == 2 * len(DAMAGED)
        assert known_answers(home) == whole


def test_as_many_requests_as_may_be_are_under_way_together(home: Path) -> None:
    most = RewriteConfig.model_json_schema()["properties"]["at_once"]["maximum"]
    all_there = Barrier(most, timeout=60)

    def said_once_all_are_there(prompt: str) -> Said:
        all_there.wait()
        return said(prompt)

    with teacher_server(said_once_all_are_there) as server:
        documents = training(*(f"{OTHERS[1]} {n}" for n in range(most)))
        _, result = rewritten(home, config(server.address, at_once=most, attempts=1, timeout_seconds=90), documents)
        assert counts(result) == {"rewritten": most} and server.most_at_once == most


def test_budgets_are_never_exceeded(home: Path) -> None:
    with teacher_server(said) as server:
        _, few = rewritten(home, config(server.address, most_requests=2))
        assert counts(few) == {"rewritten": 2} and len(server.asked) == 2
        cost = len(f"{PROMPT} {TEXTS[0]}".encode()) + 64 + 512
        _, some = rewritten(home, config(server.address, most_tokens=3 * cost), training(*TEXTS))
        assert some.summary["tokens"] <= 3 * cost and some.summary["rewritten"] >= 3
        _, none = rewritten(home, config(server.address, most_tokens=10), training(*TEXTS))
        assert counts(none) == {"not_asked": 6} and "augment.rewrite.most_tokens" in none.summary["notices"][0]


def test_answers_stand_beside_their_sources_in_what_is_learned(home: Path) -> None:
    with teacher_server(said) as server:
        documents = source(home, *SHARDS)
        with builder(home, Execution(workers=1)) as engine, engine_in_force(engine):
            clean = filter_documents(FilterConfig(preset="none"), documents, documents)
            words = rewrite(config(server.address), clean)
            read = augment(AugmentConfig(rewrite=Kind(share=1.0), max_share=1.0), clean, clean, words)
    assert isinstance(read, Artifact)
    rows = {row["id"]: row for row in rows_of(read, "documents")}
    forms = [row for row in rows_of(read, "ledger") if row["kind"] == "rewrite"]
    assert len(forms) == 9
    for form in forms:
        assert rows[form["id"]]["text"] == f"In other words: {rows[form['twin']]['text']}"
        assert json.loads(rows[form["id"]]["metadata"])["augmented"] == {"kind": "rewrite", "of": form["twin"]}


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = ["tests", "tests/tasks/rewrite"]
from test_rewrite import config, rewritten, training
rewritten(Path(sys.argv[1]), config(sys.argv[2]), training(*(f"River {n} is wide, and quiet too." for n in range(40))))
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_asks_nothing_twice_that_was_answered(home: Path) -> None:
    with teacher_server(said, seconds=0.05) as server:
        command = [sys.executable, "-c", CHILD, str(home), server.address]
        child = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        wait_until(lambda: len(server.answered) >= 8, "eight answers", child)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        wait_until(lambda: len(server.answered) == len(server.asked), "the end of what was under way")
        first = list(server.answered)
        kept = len(list((home / "cache" / "rewritten").rglob("*.json")))
        assert 8 <= len(first) < 40 and kept >= len(first) - 4, "those alone whose answers were under way"
        subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
        assert set(server.asked) == set(server.answered) and len(set(server.asked)) == 40
        assert len(server.asked) == 40 + len(first) - kept and max(Counter(server.asked).values()) <= 2


def taught(home: Path, folder: Path, *texts: str, **settings: Any) -> tuple[Artifact, StageResult]:
    """What a model in a folder makes of documents."""
    asking = RewriteConfig.model_validate(
        {"teacher": {"path": str(folder)}, "share": 1.0, "most_answer_tokens": 8} | settings
    )
    documents = source(home, training(*texts))
    with builder(home, Execution(workers=1)) as engine, engine_in_force(engine):
        assert asking.importing is not None
        artifact = rewrite(asking, documents, take_rewriter(asking.importing))
    assert isinstance(artifact, Artifact)
    return artifact, engine.results[-1]


def known_answers(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (home / "cache" / "rewritten").rglob("*.json")}


def test_an_answer_that_a_teacher_on_this_machine_did_not_end_is_cut(home: Path, tmp_path: Path) -> None:
    """Of random weights, whose tokens are seldom those that their text has: to count these would be too few."""
    folder = write_qwen(tmp_path / "model")
    artifact, _ = taught(home, folder, *OTHERS, *TEXTS, temperature=0.0, prompt="{text}", most_apart=1000.0)
    form, model = needed_chat_form(folder), load_model(folder)
    expected = Counter[tuple[bool, int]]()
    for text in (*OTHERS, *TEXTS):
        ids = starting_ids(form, text, "chat")
        alone = SaidAlone(model, form.tokenizer, ids, Sampling(8), form.control.ends)
        list(alone)
        expected[alone.finish == "length", len(ids) + len(alone.tokens)] += 1
    found = Counter((row["outcome"] == "cut", row["tokens"]) for row in rows_of(artifact, "ledger"))
    assert found == expected and any(cut for cut, _ in found)


def test_a_teacher_on_this_machine_answers_alike_each_time_and_is_not_asked_again(home: Path, tmp_path: Path) -> None:
    folder = write_qwen(tmp_path / "model")

    def ask(most_apart: float) -> tuple[Artifact, StageResult]:
        return taught(home, folder, *OTHERS, *TEXTS[:2], "word " * 200, most_apart=most_apart)

    first, result = ask(5.0)
    assert sum(counts(result).values()) == 6 and result.summary["failed"] >= 1, "one is longer than the context"
    answers = known_answers(home)
    assert len(answers) == 6 - result.summary["failed"] and result.summary["tokens"] > 0
    assert ask(6.0)[0]["ledger"].digest == first["ledger"].digest
    shutil.rmtree(home / "cache" / "rewritten")
    assert ask(7.0)[0]["ledger"].digest == first["ledger"].digest, "it says the same again"
    assert known_answers(home) == answers


def test_answers_that_a_teacher_drew_by_another_seed_are_not_taken_for_those_of_this_one(
    home: Path, tmp_path: Path
) -> None:
    folder = write_qwen(tmp_path / "model")

    def known_after(seed: int, most_apart: float) -> dict[str, bytes]:
        taught(home, folder, *OTHERS, *TEXTS, seed=seed, most_apart=most_apart, prompt="{text}")
        return known_answers(home)

    first = known_after(1, 5.0)
    both = known_after(2, 5.0)
    shutil.rmtree(home / "cache" / "rewritten")
    second = known_after(2, 6.0)
    assert set(first.values()) != set(second.values()) and both == first | second and len(both) == 18


@pytest.mark.parametrize(
    "settings, said_of_it",
    [
        ({"address": "http://127.0.0.1:1/v1"}, "model: what does the server"),
        ({}, "one of them"),
        ({"address": "http://127.0.0.1:1", "model": "m", "prompt": "Say it."}, "{text}"),
    ],
)
def test_a_section_that_asks_nobody_is_refused(settings: dict[str, Any], said_of_it: str) -> None:
    with pytest.raises(ValidationError, match=said_of_it):
        RewriteConfig.model_validate(settings)


@pytest.mark.parametrize(
    "given, path",
    [
        ("", "/v1"),
        ("/", "/v1"),
        ("/v1/", "/v1"),
        ("/v1beta/openai", "/v1beta/openai"),
        ("/api/paas/v4/", "/api/paas/v4"),
    ],
)
def test_only_an_address_without_a_path_is_given_one(home: Path, given: str, path: str) -> None:
    with teacher_server(said) as server:
        _, result = rewritten(home, config(f"http://127.0.0.1:{server.port}{given}"), training(TEXTS[0]))
        assert counts(result) == {"rewritten": 1} and server.paths == {f"{path}/chat/completions"}


@pytest.mark.parametrize(
    "address",
    [
        "http://user:a-secret-key@127.0.0.1:1/v1",
        "http://127.0.0.1:1/v1?api_key=a-secret-key",
        "http://127.0.0.1:1?a-secret-key",
        "http://127.0.0.1:1/v1#a-secret-key",
    ],
)
def test_a_key_in_the_address_is_refused_and_not_repeated(home: Path, tmp_path: Path, address: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"collect: {{synthetic: {{}}}}\naugment: {{rewrite: {{address: '{address}', model: m}}}}\n")
    ended = llmill("plan", str(recipe), home=home)
    assert ended.returncode == 2 and "LLMILL_TEACHER_KEY" in ended.stderr
    assert "a-secret-key" not in ended.stdout + ended.stderr
