"""The server against its own OpenAPI document: whatever is sent, no 500, errors in one shape, nothing undocumented.

Every status of a request that is well formed or not is documented, and every reply has the fields that the document
says, none more and none less (`deployments/server/documented.py`).
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from model_server import NAME, Address, model_server
from open_models import write_qwen
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from deployments.server.documented import (
    ChatChunk,
    ChatReply,
    DetokenizeReply,
    EmbeddingReply,
    ErrorReply,
    ModelReply,
    ModelsReply,
    Reply,
    TextChunk,
    TextReply,
    TokensReply,
)

CONTEXT = 64  # answers are short
CHAT: Any = {"messages": [{"role": "user", "content": "Where is the river?"}], "max_tokens": 4}
PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/models/{name}"]
PATHS += ["/tokenize", "/detokenize", "/v1/feedback", "/v1/votes", "/v1/moderations"]
UNKNOWN = (
    "/v1/models/{name}",
    "/v1/feedback",
    "/v1/votes",
    "/v1/moderations",
)  # nothing has the names that are drawn
HELD = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
TEXT: Any = {"prompt": "The river", "max_tokens": 4}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    folder = write_qwen(tmp_path_factory.mktemp("model") / "river", context_length=CONTEXT)
    with model_server(folder) as address:
        yield address


REPLIES: list[tuple[str, Any, type[Reply]]] = [
    ("/v1/chat/completions", CHAT, ChatReply),
    ("/v1/chat/completions", CHAT | {"n": 2, "logprobs": True, "top_logprobs": 3}, ChatReply),
    ("/v1/chat/completions", CHAT | {"temperature": 0, "stop": "e"}, ChatReply),
    ("/v1/completions", TEXT, TextReply),
    ("/v1/completions", TEXT | {"prompt": ["a", "b"], "n": 2, "seed": 1, "logprobs": 3}, TextReply),
    ("/v1/embeddings", {"input": ["a", "b"]}, EmbeddingReply),
    ("/v1/embeddings", {"input": [5, 6], "encoding_format": "base64"}, EmbeddingReply),
    ("/tokenize", {"text": "a b"}, TokensReply),
    ("/tokenize", {"messages": CHAT["messages"]}, TokensReply),
    ("/detokenize", {"tokens": [5, 6]}, DetokenizeReply),
    ("/v1/models", None, ModelsReply),
    (f"/v1/models/{NAME}", None, ModelReply),
]


@pytest.mark.parametrize(("path", "body", "model"), REPLIES, ids=lambda value: str(value)[:40])
def test_a_reply_has_the_fields_that_are_documented_and_no_others(
    server: Address, path: str, body: Any, model: type[Reply]
) -> None:
    status, _, reply = server.ask("GET" if body is None else "POST", path, body)
    assert status == 200
    model.model_validate_json(json.dumps(reply))


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        ("/v1/chat/completions", CHAT | {"n": 2, "logprobs": True}, ChatChunk),
        ("/v1/completions", TEXT | {"logprobs": 2, "seed": 1}, TextChunk),
    ],
)
def test_so_has_each_piece_of_a_stream(server: Address, path: str, body: Any, model: type[Reply]) -> None:
    _, headers, stream = server.ask("POST", path, body | {"stream": True, "stream_options": {"include_usage": True}})
    assert headers["content-type"].startswith("text/event-stream")
    *events, done, end = stream.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    pieces = [model.model_validate_json(event.removeprefix("data: ")) for event in events]
    assert [bool(piece.choices) for piece in pieces[-2:]] == [True, False]  # type: ignore[attr-defined]


def hold_to_the_document(server: Address, path: str, examples: int) -> set[int]:
    """Send a route so many requests that its document allows, and as many that it does not; returns the statuses."""
    schema = schemathesis.openapi.from_dict(server.ask("GET", "/openapi.json")[2])
    operations = (found.ok() for found in schema.get_all_operations() if isinstance(found, Ok))
    (operation,) = (one for one in operations if one.path == path)
    session = requests.Session()
    session.trust_env = False  # a proxy of the environment knows nothing of the loopback
    answered = set()

    def hold(case: Any) -> None:
        if {str(value) for value in (case.path_parameters or {}).values()} & {".", ".."}:
            return  # any client takes these for steps in the path, and asks another route
        answer = case.call(base_url=f"http://127.0.0.1:{server.port}", session=session, timeout=120)
        answered.add(answer.status_code)
        case.validate_response(answer, checks=HELD)
        if answer.status_code >= 400:
            ErrorReply.model_validate_json(answer.content)

    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)[: 1 if path.startswith("/v1/models") else 2]:
        bounded = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        bounded(given(case=operation.as_strategy(generation_mode=mode))(hold))()
    return answered


@pytest.mark.parametrize("path", PATHS)
def test_whatever_is_sent_is_answered_as_documented(server: Address, path: str) -> None:
    statuses = hold_to_the_document(server, path, examples=5)
    assert 400 in statuses or path.startswith("/v1/models"), statuses


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_so_is_much_more(server: Address, path: str) -> None:
    statuses = hold_to_the_document(server, path, examples=150)
    assert statuses <= {400, 404} if path in UNKNOWN else 200 in statuses
    assert server.ask("GET", "/readyz")[0] == 200


def test_every_route_of_the_document_is_tried_and_every_error_documented(server: Address) -> None:
    document = server.ask("GET", "/openapi.json")[2]
    assert set(document["paths"]) == {*PATHS, "/livez", "/readyz", "/metrics"}
    for methods in document["paths"].values():
        for operation in methods.values():
            assert {"4XX", "5XX"} <= set(operation["responses"])
            assert operation["responses"]["200"]["content"]
