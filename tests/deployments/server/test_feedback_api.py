"""What users say of answers: kept with their consent, without personal data, by whoever got the answer."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from model_server import NAME, Address, feedback_store, model_server
from open_models import write_qwen
from safetensors.torch import load_file, save_file
from support import wait_until

from deployments.server.follow import Follower
from deployments.server.served import Place
from storage.documents import Message
from storage.errors import StoreError
from storage.feedback import FeedbackStore
from storage.service import Limits, Service

OTHER = "lake"
ASKED: Any = {"messages": [{"role": "user", "content": "Where is the river?"}], "max_tokens": 8}
AGREED: Any = {"rating": "up", "consent": True}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A model with other weights."""
    folder = write_qwen(tmp_path_factory.mktemp("other") / OTHER, context_length=1024)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] += 0.05
    save_file(tensors, folder / "model.safetensors")
    return Place(folder, OTHER, "e" * 64)


@pytest.fixture(scope="module")
def server(folder: Path, other: Place) -> Iterator[Address]:
    with model_server(folder, beside=other) as address:
        yield address


@pytest.fixture
def store(folder: Path) -> FeedbackStore:
    return feedback_store(folder)


def ask(server: Address, body: Any = ASKED, path: str = "/v1/chat/completions", **more: Any) -> Any:
    status, reply = server.post(path, body | more)
    assert status == 200, reply
    return reply


def say(server: Address, **body: Any) -> tuple[int, Any]:
    return server.post("/v1/feedback", body)


def test_a_thumb_and_a_correction_are_kept_with_what_they_are_about(server: Address, store: FeedbackStore) -> None:
    before = store.count()
    messages = [{"role": "developer", "content": "Be short."}, {"role": "user", "content": "河在哪里?"}]
    reply = ask(server, {"messages": messages, "max_tokens": 5, "seed": 3, "temperature": 0.5, "user": "1"})
    status, kept = say(server, id=reply["id"], rating="down", correction="Dort.", consent=True)
    assert status == 200 and kept["object"] == "feedback"
    (record,) = (one for one in store.feedback() if one.id == kept["id"])
    answer = reply["choices"][0]["message"]["content"]
    assert (record.request, record.model, record.form) == (reply["id"], "d" * 64, "chat")
    assert record.messages == (Message("system", "Be short."), Message("user", "河在哪里?"))
    assert (record.answer, record.rating, record.correction) == (answer, "down", "Dort.")
    prompt = server.post("/tokenize", {"messages": messages})[1]["tokens"]
    assert list(record.prompt_ids) == prompt
    assert list(record.answer_ids) == server.post("/tokenize", {"text": answer})[1]["tokens"]
    assert record.sampling == {**{"temperature": 0.5, "top_p": 1.0, "seed": 3, "beams": 1, "max_tokens": 5, "stop": []}}
    assert record.user == store.user_of("", "1") and len(record.time) == 32
    assert say(server, id=reply["id"], rating="up", consent=True, user="2")[0] == 200, (
        "another opinion is another record"
    )
    assert store.count() == before + 2


def test_each_of_several_answers_can_be_meant_and_a_stream_s_too(server: Address, store: FeedbackStore) -> None:
    body = {"prompt": [[40, 41], [40, 41, 42]], "n": 2, "seed": 1, "max_tokens": 4}
    reply = ask(server, body, "/v1/completions")
    status, kept = say(server, id=reply["id"], choice=3, **AGREED)
    assert status == 200
    (record,) = (one for one in store.feedback() if one.id == kept["id"])
    text = server.post("/detokenize", {"tokens": [40, 41, 42]})[1]["text"]
    assert record.form == "text" and record.messages == (Message("user", text),)
    assert record.answer == reply["choices"][3]["text"] and record.sampling["seed"] == 2
    assert say(server, id=reply["id"], choice=4, **AGREED)[1]["error"]["param"] == "choice"
    _, _, streamed = server.ask("POST", "/v1/chat/completions", ASKED | {"stream": True})
    events = [json.loads(line[6:]) for line in streamed.split("\n\n") if line.startswith("data: {")]
    status, kept = say(server, id=events[0]["id"], **AGREED)
    (record,) = (one for one in store.feedback() if one.id == kept["id"])
    assert record.answer == "".join(one["choices"][0]["delta"].get("content", "") for one in events)


def test_nothing_is_kept_without_consent(server: Address, store: FeedbackStore) -> None:
    before, reply, second = store.digest(), ask(server), ask(server, model=OTHER)
    for body in ({}, {"consent": False}, {"consent": None}):
        status, answer = say(server, id=reply["id"], rating="up", **body)
        assert status == 400 and answer["error"]["param"] == "consent"
        assert "nothing is kept without it" in answer["error"]["message"] and "agrees" in answer["error"]["message"]
        voted = {"ids": [reply["id"], second["id"]], "choice": "a", **body}
        assert server.post("/v1/votes", voted)[1]["error"]["param"] == "consent"
    assert store.digest() == before


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"consent": "yes"}, "consent"),
        ({"consent": 1}, "consent"),
        ({"id": None}, "id"),
        ({"id": "x" * 65}, "id"),
        ({"id": 7}, "id"),
        ({"rating": "good"}, "rating"),
        ({"rating": None}, "rating"),
        ({"choice": -1}, "choice"),
        ({"correction": ""}, "correction"),
        ({"correction": " \n"}, "correction"),
        ({"correction": "x" * 20_001}, "correction"),
        ({"correction": "\ud800"}, "correction"),
        ({"correction": ["x"]}, "correction"),
        ({"user": "x" * 257}, "user"),
        ({"comment": "x"}, "comment"),
    ],
)
def test_bad_feedback_is_refused_by_its_field(server: Address, store: FeedbackStore, body: Any, param: str) -> None:
    before = store.count()
    status, answer = say(server, **{"id": ask(server)["id"], **AGREED, **body})
    assert (status, answer["error"]["param"]) == (400, param)
    assert store.count() == before


def test_a_correction_that_is_the_answer_is_none(server: Address) -> None:
    reply = ask(server, {"prompt": "The river", "max_tokens": 8}, "/v1/completions")
    answer = reply["choices"][0]["text"]
    assert answer.strip()
    status, refused = say(server, id=reply["id"], correction=f" {answer} ", consent=True)
    assert status == 400 and "what the model has said" in refused["error"]["message"]


PLANTED = {
    "ada.lovelace@gmail.com": "email@example.com",
    "4111 1111 1111 1111": "0000 0000 0000 0000",
    "+49 30 901820": "555-0100",
    "185.199.108.153": "192.0.2.1",
    "sk-llmill-" + "aB3" * 15: "YOUR_SECRET",
}


def test_personal_data_are_replaced_before_anything_is_written(
    server: Address, store: FeedbackStore, folder: Path
) -> None:
    planted = " and ".join(PLANTED)
    earlier = [{"role": "user", "content": f"I am {planted}"}, {"role": "assistant", "content": f"You are {planted}"}]
    body = {
        "messages": [{"role": "system", "content": f"Ask {planted}"}, *earlier, *ASKED["messages"]],
        "max_tokens": 4,
        "stop": list(PLANTED)[::2],
    }
    reply = ask(server, body)
    status, kept = say(server, id=reply["id"], correction=f"Write to {planted}.", consent=True)
    assert status == 200
    (record,) = (one for one in store.feedback() if one.id == kept["id"])
    assert record.sampling["stop"] == list(PLANTED.values())[::2]
    replaced = " and ".join(PLANTED.values())
    assert record.correction == f"Write to {replaced}."
    assert [message.content for message in record.messages][:3] == [
        f"Ask {replaced}",
        f"I am {replaced}",
        f"You are {replaced}",
    ]
    said = [{"role": message.role, "content": message.content} for message in record.messages]
    assert list(record.prompt_ids) == server.post("/tokenize", {"messages": said})[1]["tokens"], "ids tell no more"
    for file in folder.parent.glob("feedback.db*"):
        content = file.read_bytes().decode("latin-1")
        assert not [one for one in PLANTED if one in content], file


def test_only_the_key_that_got_a_reply_may_say_something_of_it(folder: Path, tmp_path: Path) -> None:
    service = Service(f"sqlite:///{tmp_path / 'service.db'}")
    ada, eve = (service.add_key(name, "standard", Limits()) for name in ("ada", "eve"))

    def post(server: Address, path: str, body: Any, key: str) -> tuple[int, Any]:
        status, _, answer = server.ask("POST", path, body, {"authorization": f"Bearer {key}"})
        return status, answer

    with model_server(folder, service) as server:
        wait_until(lambda: server.post("/v1/chat/completions", ASKED)[0] == 401, "keys are asked for")
        reply = post(server, "/v1/chat/completions", ASKED, ada)[1]
        refused = post(server, "/v1/feedback", {"id": reply["id"], **AGREED}, eve)
        unknown = post(server, "/v1/feedback", {"id": "chatcmpl-nothing", **AGREED}, eve)
        assert refused[0] == unknown[0] == 404 and refused[1]["error"]["code"] == "reply_not_found"
        assert refused[1]["error"]["message"].replace(reply["id"], "ID") == unknown[1]["error"]["message"].replace(
            "chatcmpl-nothing", "ID"
        ), "that it is somebody's is not told"
        assert post(server, "/v1/feedback", {"id": reply["id"], **AGREED}, ada)[0] == 200


@pytest.mark.parametrize("limit", [{"remembered_seconds": 0.2}, {"remembered_replies": 1}, {"remembered_bytes": 2048}])
def test_replies_are_forgotten(folder: Path, limit: dict[str, Any]) -> None:
    with model_server(folder, **limit) as server:
        first = ask(server)["id"]
        ask(server)
        time.sleep(0.25)
        status, answer = say(server, id=first, **AGREED)
        assert status == 404 and "forgotten" in answer["error"]["message"] and answer["error"]["param"] == "id"


def test_a_reply_that_its_client_left_is_not_remembered(server: Address) -> None:
    body: Any = {"prompt": "The river", "max_tokens": 900, "temperature": 2, "seed": 1}
    with server.client().completions.create(model=NAME, **body, stream=True) as stream:
        reply = next(stream).id
    wait_until(lambda: not server.server.busy, "it has been let go")
    status, answer = say(server, id=reply, **AGREED)
    assert (status, answer["error"]["code"]) == (404, "reply_not_found")


def test_how_often_something_is_kept_of_one_reply_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> int:
        raise StoreError("the database is away")

    with model_server(folder, max_records_per_reply=2) as server:
        reply = ask(server)["id"]
        with monkeypatch.context() as patch:
            patch.setattr(FeedbackStore, "write", away)
            assert [say(server, id=reply, **AGREED)[0] for _ in range(3)] == [503] * 3, "which are not counted"
        assert [say(server, id=reply, **AGREED)[0] for _ in range(3)] == [200, 200, 429]


def test_a_database_that_is_away_is_said_and_nothing_is_lost_by_it(
    server: Address, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> int:
        raise StoreError("the database is away")

    reply, second = ask(server), ask(server, model=OTHER)
    monkeypatch.setattr(FeedbackStore, "write", away)
    vote = {"ids": [reply["id"], second["id"]], "choice": "tie", "consent": True}
    for status, headers, answer in (
        server.ask("POST", "/v1/feedback", {"id": reply["id"], **AGREED}),
        server.ask("POST", "/v1/votes", vote),
    ):
        assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "feedback_away", "5")
    monkeypatch.undo()
    assert say(server, id=reply["id"], **AGREED)[0] == 200
    assert server.post("/v1/votes", vote)[0] == 200, "it can be sent again"


def test_both_models_are_listed_and_answer_by_their_names(server: Address) -> None:
    models = server.ask("GET", "/v1/models")[2]["data"]
    assert [(one["id"], one["digest"][0]) for one in models] == [(NAME, "d"), (OTHER, "e")]
    assert all(one["memory_bytes"] > 100_000 for one in models)
    replies = {name: ask(server, model=name) for name in (NAME, OTHER, "default")}
    assert [reply["model"] for reply in replies.values()] == [NAME, OTHER, NAME]
    assert replies[OTHER]["system_fingerprint"] == "e" * 16
    assert replies[OTHER]["choices"] != replies[NAME]["choices"] == replies["default"]["choices"]
    status, answer = server.post("/v1/chat/completions", ASKED | {"model": "nobody"})
    assert status == 404 and NAME in answer["error"]["message"] and OTHER in answer["error"]["message"]


def test_a_vote_is_kept_in_the_order_in_which_the_answers_were_shown(server: Address, store: FeedbackStore) -> None:
    for models, choice in (((NAME, OTHER), "a"), ((OTHER, NAME), "both_bad")):
        replies = [ask(server, model=name) for name in models]
        ids = [reply["id"] for reply in replies]
        status, kept = server.post("/v1/votes", {"ids": ids, "choice": choice, "consent": True})
        assert status == 200 and kept["object"] == "vote"
        (vote,) = (one for one in store.votes() if one.id == kept["id"])
        assert (vote.request_a, vote.request_b, vote.choice) == (*ids, choice)
        assert [vote.model_a[0], vote.model_b[0]] == ["d" if name == NAME else "e" for name in models]
        assert [vote.answer_a, vote.answer_b] == [one["choices"][0]["message"]["content"] for one in replies]
        assert vote.messages == (Message("user", "Where is the river?"),)
        again = server.post("/v1/votes", {"ids": ids[::-1], "choice": "b", "consent": True})
        assert (again[0], again[1]["error"]["code"]) == (409, "already_voted")


def test_what_is_no_vote_is_refused_with_the_reason(server: Address, store: FeedbackStore) -> None:
    before = store.count()
    first, second = ask(server)["id"], ask(server, model=OTHER)["id"]
    elsewhere = ask(server, {"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 2}, model=OTHER)["id"]
    many = ask(server, model=OTHER, n=2, seed=1)["id"]
    for ids, choice, words in (
        ([first, elsewhere], "a", "other messages"),
        ([first, first], "a", "same model"),
        ([first, ask(server)["id"]], "a", "same model"),
        ([first, many], "a", "one answer each"),
        ([first], "a", "ids"),
        ([first, second, many], "a", "ids"),
        ([first, second], "c", "choice"),
        ([first, "chatcmpl-none"], "a", "ids.1: no reply"),
    ):
        status, answer = server.post("/v1/votes", {"ids": ids, "choice": choice, "consent": True})
        assert status in (400, 404) and words in answer["error"]["message"], answer
    assert store.count() == before


def test_feedback_on_a_model_that_is_served_no_more(folder: Path, other: Place, store: FeedbackStore) -> None:
    """The one beside becomes the champion: it is not loaded again, and stands beside none from then on."""
    with model_server(folder, beside=other, look_seconds=0.02) as server:
        reply, beside = ask(server), server.server.beside
        follower = Follower(server.server, lambda: other)
        wait_until(lambda: server.server.served is beside, "the one beside is served")
        follower.stop()
        assert [one["id"] for one in server.ask("GET", "/v1/models")[2]["data"]] == [OTHER]
        status, kept = say(server, id=reply["id"], **AGREED)
        assert status == 200
        (record,) = (one for one in store.feedback() if one.id == kept["id"])
        assert record.model == "d" * 64 and record.prompt_ids
        assert ask(server, model=NAME)["model"] == OTHER


def test_two_servers_of_one_database_keep_what_their_own_users_say(
    server: Address, folder: Path, store: FeedbackStore
) -> None:
    before = store.count()
    with model_server(folder) as second:
        replies = [(one, ask(one)["id"]) for one in (server, second)]
        assert [say(one, id=reply, **AGREED)[0] for one, reply in replies] == [200, 200]
        assert say(second, id=replies[0][1], **AGREED)[0] == 404, "each remembers its own replies"
    assert store.count() == before + 2
