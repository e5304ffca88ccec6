"""Moderation at the server: what is flagged is refused, or never sent, however the answer is made and asked for."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from model_server import Address, model_server
from support import Command

from deployments.server.answering import Piece
from deployments.server.errors import ApiError
from deployments.server.metrics import Metrics
from deployments.server.moderation import FILTERED, Guarded, Moderation
from deployments.server.pricing import Plan, Pricing
from model.engine import Made, Request
from storage.service import Limits, Service, open_service
from tasks.moderate.config import ModerationConfig
from tasks.moderate.folding import folded, tokens
from tasks.moderate.moderator import Moderator
from tasks.moderate.passages import sentences_of

WORDS = ("doctor", "他妈的", "Mist", "ควย")


def judge_of(folder: Path, *words: str) -> Moderator:
    path = folder / "words.txt"
    path.write_text("\n".join(words) + "\n", encoding="utf-8")
    categories = [{"name": "rude", "words": [{"path": str(path)}]}, {"name": "data", "detectors": ["email"]}]
    return Moderator.of(ModerationConfig.model_validate({"categories": categories}), "")


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Moderator:
    return judge_of(tmp_path_factory.mktemp("words"), *WORDS)


@pytest.fixture(scope="module")
def server(folder: Path, judge: Moderator) -> Iterator[Address]:
    with model_server(folder, moderator=judge) as address:
        yield address


class Said:
    """An answer whose text comes in given pieces; the engine makes a little more until it hears that it is enough."""

    made = 0

    def __init__(self, pieces: Sequence[str]) -> None:
        self.request = Request([0], len(pieces) or 1)
        self.cancelled = False
        self._pieces = pieces

    def cancel(self) -> None:
        self.cancelled, self.made = True, self.made + 1000

    async def __aiter__(self) -> AsyncIterator[Piece]:
        for number, text in enumerate(self._pieces, 1):
            self.made = number
            yield Piece(text, Made(self.request, number, None), "stop" if number == len(self._pieces) else None)


def guarded(judge: Moderator, pieces: Sequence[str]) -> tuple[str, str | None, int, bool]:
    """What passes of an answer: its text, why it ended, its tokens, and whether the engine was told to stop."""
    said = Said(pieces)
    answer = Guarded(said, judge, Metrics(lambda: 0, lambda: 0))

    async def read() -> list[Piece]:
        return [piece async for piece in answer]

    passed = asyncio.run(read())
    return "".join(piece.text for piece in passed), passed[-1].ending if passed else None, answer.made, said.cancelled


def cut(text: str, places: Sequence[int]) -> list[str]:
    """A text in pieces, some of them empty, as tokens of a part of a character are."""
    ends = [*sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("All is well. Call a doctor now. Fine.", "All is well."),
        ("他来了。这是他妈的天气。好。", "他来了。"),
        ("ฉันไปบ้าน พูดว่าควย เขามา", "ฉันไปบ้าน"),
        ("Es kostet 3.50 Euro. Was für ein Mist! Ende.", "Es kostet 3.50 Euro."),
        ("यह ठीक है। write to ada@gmail.com। हाँ।", "यह ठीक है।"),
        ("code\n\nmore d0ctor", "code\n\n"),
        ("doctor", ""),
    ],
)
def test_no_character_of_a_flagged_sentence_passes(text: str, passes: str, judge: Moderator) -> None:
    for pieces in ([text], list(text), cut(text, range(0, len(text), 3))):
        said, ending, tokens, cancelled = guarded(judge, pieces)
        assert (said, ending, cancelled) == (passes, FILTERED, True)
        assert 0 < tokens <= len(pieces)


@settings(deadline=None, max_examples=150)
@given(
    some.lists(
        some.sampled_from(["All is well. ", "doctor", " d", "octor", ".", "。", "他妈", "的", "\n\n", " Mist! ", "x"])
    ),
    some.lists(some.integers(0, 400), max_size=40),
)
def test_the_pieces_of_an_answer_change_neither_the_verdict_nor_what_passes(
    judge: Moderator, parts: list[str], places: list[int]
) -> None:
    text = "".join(parts)
    said, ending, tokens, _ = guarded(judge, cut(text, places))
    good = ""
    for sentence in sentences_of(text):
        if judge.judge(sentence).flagged:
            assert (said, ending) == (good, FILTERED)
            return
        good += sentence
    assert (said, ending, tokens) == (text, "stop", len(places) + 1)


def test_without_a_judge_pieces_pass_as_they_are_made(folder: Path) -> None:
    with model_server(folder) as server:
        state = server.server
        answer = Said(["a"])
        assert Moderation(state.metrics, state.accounts).guard(state.served, answer) is answer
        status, reply = server.post("/v1/moderations", {"input": "doctor"})
        assert status == 404 and reply["error"]["code"] == "moderation_off"
        assert server.post("/v1/completions", {"prompt": "A doctor", "max_tokens": 2})[0] == 200


def test_another_judge_s_verdict_is_not_remembered(folder: Path, tmp_path: Path) -> None:
    """A new champion's judge may come to lie in memory where the one before was."""
    with model_server(folder) as server:
        state, places = server.server, set[int]()
        moderation = Moderation(state.metrics, state.accounts)

        async def flagged(judge: Moderator) -> bool:
            try:
                await moderation.check_prompt(replace(state.served, moderator=judge), None, [("prompt", "a doctor")])
            except ApiError:
                return True
            return False

        for number in range(60):
            judge = judge_of(tmp_path, "river" if number % 2 else "doctor")
            assert asyncio.run(flagged(judge)) == (number % 2 == 0)
            assert asyncio.run(flagged(judge)) == (number % 2 == 0), "and its own is"
            places.add(id(judge))
            del judge
        assert len(places) < 60, "none lay where another had been: nothing was tried"


def test_openai_s_client_reads_moderations(server: Address) -> None:
    reply = server.client().moderations.create(input=["Call a d0ctor", "All is well", "to ada@gmail.com"])
    assert reply.id.startswith("modr-") and [one.flagged for one in reply.results] == [True, False, True]
    first = reply.results[0].to_dict()
    assert first["categories"] == {"rude": True, "data": False}
    assert first["category_scores"] == {"rude": 1.0, "data": 0.0}
    assert first["category_applied_input_types"] == {"rude": ["text"], "data": ["text"]}
    parts: Any = [{"type": "text", "text": "Call a doc"}, {"type": "text", "text": "tor"}]
    (one,) = server.client().moderations.create(input=parts, model="omni-moderation-latest").results
    assert one.flagged
    with pytest.raises(openai.NotFoundError):
        server.client().moderations.create(input="x", model="gpt-4")
    for wrong in ([], ["x"] * 65):
        with pytest.raises(openai.BadRequestError, match="texts; 1 to 64"):
            server.client().moderations.create(input=wrong)


@pytest.mark.parametrize("stream", [False, True])
def test_a_flagged_prompt_is_refused_before_anything_is_made(server: Address, stream: bool) -> None:
    chat: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "DOCTOR"}]
    client = server.client()
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="river", messages=chat, stream=stream)
    assert (refused.value.code, refused.value.param) == ("content_policy_violation", "messages.1")
    ids = server.post("/tokenize", {"text": "a doctor"})[1]["tokens"]
    for prompt in ("a doctor", ids, ["well", "a doctor"]):
        with pytest.raises(openai.BadRequestError, match="flagged as rude"):
            client.completions.create(model="river", prompt=prompt, stream=stream)


def asked(server: Address, seed: int, key: str = "", **more: Any) -> Any:
    body = {"prompt": "Go on", "max_tokens": 300, "seed": seed, "temperature": 1.0, "logprobs": 1, **more}
    return server.ask("POST", "/v1/completions", body, {"authorization": f"Bearer {key}"})[2]


def events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def later_word(server: Address, seed: int) -> tuple[int, Any, str, str] | None:
    """An answer, its first sentences, and a word of the next one that is in none of these; None where it has none."""
    reply = asked(server, seed)
    first, *others = sentences_of(reply["choices"][0]["text"])
    for sentence in others:
        for word in ("river", "engine", "castle", "doctor", "window", "garden", "letter", "broken", "silver"):
            if word in tokens(folded(sentence)) and word not in tokens(folded(first)):
                return seed, reply, first, word
        first += sentence
    return None


def test_streamed_and_whole_answers_end_before_the_flagged_sentence(folder: Path, tmp_path: Path) -> None:
    """A word of a later sentence of an answer is made a rude one; the model writes at random, so one is looked for.
    What was made is paid, shown or not."""
    with model_server(folder) as free:
        seed, plain, good, word = next(filter(None, (later_word(free, seed) for seed in range(100))))
    service = Service(f"sqlite:///{tmp_path / 'service.db'}")
    secret = service.add_key("ada", "standard", Limits())
    with model_server(folder, service, moderator=judge_of(tmp_path, word)) as server:
        whole = asked(server, seed, secret)
        streamed = events(asked(server, seed, secret, stream=True, stream_options={"include_usage": True}))
    assert (whole["choices"][0]["text"], whole["choices"][0]["finish_reason"]) == (good, "content_filter")
    choices = [event["choices"][0] for event in streamed if event["choices"]]
    assert "".join(choice["text"] for choice in choices) == good
    assert choices[-1]["finish_reason"] == "content_filter"
    shown = "".join(token for one in choices if one["logprobs"] for token in one["logprobs"]["tokens"])
    assert word not in tokens(folded(shown)), "log-probabilities name tokens too"
    usages = [whole["usage"], streamed[-1]["usage"]]
    rows = service._database.do(lambda connection: connection.execute(service._ledger.select()).all())
    for row, usage in zip(rows, usages, strict=True):
        assert (row.outcome, row.made_tokens) == ("content_filter", usage["completion_tokens"])
        assert 0 < row.made_tokens <= plain["usage"]["completion_tokens"] and row.price > 0
    assert service.standings("") == {}, "what a model says is no hit of the key"


def test_verdicts_are_counted_by_category(folder: Path, judge: Moderator) -> None:
    with model_server(folder, moderator=judge) as server:
        server.post("/v1/completions", {"prompt": "a doctor", "max_tokens": 4})
        server.post("/v1/completions", {"prompt": "a river", "max_tokens": 4})
        server.post("/v1/moderations", {"input": "ada@gmail.com"})
        text = server.ask("GET", "/metrics")[2]
    for line in (
        'llmill_moderated_total{category="rude",place="prompt"} 1.0',
        'llmill_moderated_total{category="none",place="prompt"} 1.0',
        'llmill_moderated_total{category="data",place="asked"} 1.0',
        'llmill_moderated_total{category="none",place="answer"}',
    ):
        assert line in text
    assert "doctor" not in text and "ada" not in text


def test_a_key_with_many_hits_is_slowed_then_stopped_for_good_until_it_is_allowed(
    folder: Path, judge: Moderator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = Plan.model_validate(
        {"prompt": 0, "cached": 0, "made": 0, "slowed_after_hits": 2, "slowed_requests_per_minute": 2}
        | {"stopped_after_hits": 4}
    )
    monkeypatch.setattr("model_server.read_pricing", lambda: Pricing(currency="EUR", plans={"free": free}))
    service = Service(f"sqlite:///{tmp_path / 'service.db'}")
    secret, other = (service.add_key(name, "free", Limits()) for name in ("ada", "bob"))
    few = service.add_key("few", "free", Limits(requests_per_minute=1))
    for _ in range(2):
        service.note("few", "hit", "rude")
    bad, good = {"prompt": "a doctor", "max_tokens": 2}, {"prompt": "a river", "max_tokens": 2}

    def ask(server: Address, body: Any, key: str = secret) -> tuple[int, str | None]:
        status, _, reply = server.ask("POST", "/v1/completions", body, {"authorization": f"Bearer {key}"})
        return status, reply.get("error", {}).get("code")

    refused = (400, "content_policy_violation")
    with model_server(folder, service, moderator=judge) as server:
        assert [ask(server, body) for body in (bad, bad, bad, bad)] == [refused] * 4, "two at once is what slow allows"
        assert ask(server, good) == (403, "key_stopped")
        assert ask(server, good, other)[0] == 200, "another key is not meant"
        assert [ask(server, good, few)[0] for _ in range(2)] == [200, 429], "slow allows nobody more than before"
    assert service.standings("")["ada"].hits == 4 and service.standings("")["ada"].stopped
    with model_server(folder, Service(f"sqlite:///{tmp_path / 'service.db'}"), moderator=judge) as again:
        assert ask(again, good) == (403, "key_stopped"), "a restart changes nothing"
        service.note("ada", "allowed")
        assert ask(again, good)[0] == 200
        assert [ask(again, bad) for _ in range(2)] == [refused] * 2
        statuses = [ask(again, good) for _ in range(3)]
        assert statuses[-1] == (429, "rate_limit_exceeded"), "slowed"
    assert service.standings("9999") == {"ada": service.standings("9999")["ada"]}


def test_keys_list_shows_hits_and_allow_lets_a_key_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(capsys, monkeypatch)
    service = open_service(tmp_path)
    service.add_key("ada", "standard", Limits())
    for event in ("hit", "hit", "stopped"):
        service.note("ada", event, "rude")
    rows = json.loads(command("keys", "list", "--json", home=tmp_path)[1])["keys"]
    assert [(row["hits"], row["stopped"]) for row in rows] == [(2, True)]
    assert command("keys", "list", home=tmp_path)[1].split()[-2:] == ["2", "stopped"]
    assert command("keys", "allow", "ada", home=tmp_path)[0] == 0
    assert command("keys", "list", home=tmp_path)[1].split()[-2:] == ["0", "valid"]
