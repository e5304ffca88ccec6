"""The server's routes. Whoever speaks OpenAI's API is answered; an error is in that API's shape, whatever it is of."""

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from deployments.asgi import Application, Message, Receive, Scope, Send
from deployments.server.accounts import Accounts
from deployments.server.adapters import DEFAULT
from deployments.server.documented import (
    ERRORS,
    ChatReply,
    DetokenizeReply,
    EmbeddingReply,
    ModelReply,
    ModelsReply,
    TextReply,
    TokensReply,
    answered,
    plain,
)
from deployments.server.engines.seam import AnswerEngine
from deployments.server.errors import ApiError, invalid, stopping
from deployments.server.feedback import Listener, add_feedback
from deployments.server.generation import KEY, Generator, too_many_messages
from deployments.server.limits import ONCE, LimitedBody
from deployments.server.memory import Memory
from deployments.server.metrics import Metrics
from deployments.server.moderation import Moderation, add_moderation
from deployments.server.pages import OPEN, add_page
from deployments.server.protocol import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)
from deployments.server.replies import embedding_of
from deployments.server.served import Served
from deployments.server.settings import ServerSettings
from model.engine_thread import EngineStoppedError, EngineThread
from storage.feedback import FeedbackStore
from storage.service import Key

HEALTH = ("/livez", "/readyz")  # ask for no key, and answer while the server stops
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Server:
    """The state behind the routes: the model that is served now, with its adapters, and perhaps one beside it, to be
    compared."""

    def __init__(
        self,
        served: Served,
        settings: ServerSettings,
        accounts: Accounts,
        feedback: FeedbackStore,
        beside: Served | None = None,
    ) -> None:
        self.served, self.settings, self.accounts, self.beside = served, settings, accounts, beside
        self.metrics = Metrics(
            lambda: sum(engine.running for engine in self.engines),
            lambda: sum(engine.waiting for engine in self.engines),
        )
        memory = Memory(settings)
        self.moderation = Moderation(self.metrics, accounts)
        self.generator = Generator(settings, self.metrics, accounts, memory, self.moderation)
        self.listener = Listener(memory, feedback, settings)
        self.stopping = False
        self.earlier: set[str] = set()  # names of models that were served before: who asks for one gets the present one
        self.open = 0  # requests that have not been answered to their end

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return self.open > 0

    @property
    def models(self) -> tuple[Served, ...]:
        """Those that are served, the adapters of the first one among them."""
        served = self.served
        return (served, *served.adapted, *(() if self.beside is None else (self.beside,)))

    @property
    def engines(self) -> tuple[AnswerEngine, ...]:
        """Those behind the models: adapters have none of their own."""
        return (self.served.engine,) if self.beside is None else (self.served.engine, self.beside.engine)

    def model(self, name: str) -> Served:
        """The model of that name, by default the one there is; ApiError for another."""
        models = self.models
        for one in models:
            if name == one.name:
                return one
        if name not in ("", DEFAULT, *self.earlier):
            names = ", ".join(repr(one.name) for one in models)
            raise ApiError(
                404,
                f"there is no model {name!r} here; there is {names}",
                code="model_not_found",
                param="model",
            )
        return models[0]

    def swap(self, served: Served) -> Served:
        """Serve another model from the next request on; returns the one of before, which ends what it has begun.

        The one beside may take its place; then there is none beside it any more.
        """
        before = self.served
        self.earlier.add(before.name)
        if self.beside is not None and served.digest == self.beside.digest:
            self.beside = None
        self.served = served
        return before

    def stop_engines(self) -> None:
        """Answer nothing any more."""
        for engine in self.engines:
            engine.stop()

    async def with_model(self, name: str, answer: Callable[[Served], Awaitable[Response]]) -> Response:
        """Have a request answered by the model of that name, by its successor where it was swapped meanwhile."""
        while True:
            served = self.model(name)
            try:
                return await answer(served)
            except EngineStoppedError:
                if any(served is one for one in self.models):
                    raise stopping() from None

    def ready(self) -> str | None:
        """Why no request should be sent here now; None where all is well."""
        if self.stopping:
            return "the server stops"
        for engine in self.engines:
            if engine.fault is not None:
                return engine.fault
            if engine.stuck_seconds > self.settings.stuck_seconds:
                return f"no token for {engine.stuck_seconds:.0f} s"
        return None


def create_app(
    served: Served,
    settings: ServerSettings,
    accounts: Accounts,
    feedback: FeedbackStore,
    beside: Served | None = None,
) -> FastAPI:
    """The application, for uvicorn; `app.state.server` is the server behind it."""
    app = FastAPI(title="llmill", docs_url=None, redoc_url=None, redirect_slashes=False, responses=ERRORS)
    server = Server(served, settings, accounts, feedback, beside)
    app.state.server = server
    app.add_middleware(LimitedBody, most=settings.max_body_bytes, seconds=settings.body_seconds)
    app.add_middleware(Counted, server=server)
    _add_errors(app)
    _add_health(app, server)
    add_page(app, server)
    _add_models(app, server)
    _add_generation(app, server)
    _add_tokens(app, server)
    add_feedback(app, server)
    add_moderation(app, server)
    return app


def _add_generation(app: FastAPI, server: Server) -> None:
    @app.post("/v1/chat/completions", responses=answered(ChatReply, streams=True))
    async def chat_completions(http: Request, asked: ChatRequest) -> Response:
        return await server.with_model(asked.model, lambda served: server.generator.chat(http, served, asked))

    @app.post("/v1/completions", responses=answered(TextReply, streams=True))
    async def completions(http: Request, asked: CompletionRequest) -> Response:
        return await server.with_model(asked.model, lambda served: server.generator.complete(http, served, asked))

    @app.post("/v1/embeddings", responses=answered(EmbeddingReply))
    async def embeddings(http: Request, asked: EmbeddingRequest) -> Response:
        """The mean of the last hidden states, of length 1. A model that learned to write was never taught to place
        texts by meaning: good enough to find texts that are alike in words, no more."""
        if not 0 < len(asked.texts) <= server.settings.max_texts:
            most = server.settings.max_texts
            raise ApiError(400, f"input: {len(asked.texts)} texts; 1 to {most} at once", param="input")

        async def embed(served: Served) -> Response:
            found = await served.embed(asked.texts, server.settings.request_seconds)
            tokens = sum(number for _, number in found)
            usage = {"prompt_tokens": tokens, "total_tokens": tokens}
            identity, once = f"embd-{secrets.token_hex(12)}", http.scope[ONCE]
            await server.accounts.charge(identity, http.scope[KEY], served.digest, usage, "done", once)
            rows = [
                {"object": "embedding", "index": place, "embedding": embedding_of(one, asked.encoding_format)}
                for place, (one, _) in enumerate(found)
            ]
            return JSONResponse({"object": "list", "data": rows, "model": served.name, "usage": usage})

        return await server.with_model(asked.model, embed)


def _add_tokens(app: FastAPI, server: Server) -> None:
    @app.post("/tokenize", responses=answered(TokensReply))
    def tokenize(asked: TokenizeRequest) -> dict[str, Any]:
        served = server.model(asked.model)
        if len(asked.messages or ()) > server.settings.max_messages:
            raise too_many_messages(len(asked.messages or ()), server.settings.max_messages)
        ids = served.tokens(asked.text, "text") if asked.text is not None else served.chat_ids(asked.messages or [])
        return {"tokens": ids, "count": len(ids), "max_model_len": served.context_length}

    @app.post("/detokenize", responses=answered(DetokenizeReply))
    def detokenize(asked: DetokenizeRequest) -> dict[str, Any]:
        served = server.model(asked.model)
        served.text_ids(asked.tokens, "tokens")
        return {"text": served.release.tokenizer.decode(asked.tokens, skip_special_tokens=False)}


def _add_models(app: FastAPI, server: Server) -> None:
    def described(served: Served) -> dict[str, Any]:
        return {
            "id": served.name,
            "object": "model",
            "created": served.created,
            "owned_by": "llmill",
            "parent": served.parent,
            "digest": served.digest,
            "context_length": served.context_length,
            "memory_bytes": served.memory_bytes,
        }

    @app.get("/v1/models", responses=answered(ModelsReply))
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [described(one) for one in server.models]}

    @app.get("/v1/models/{name:path}", responses=answered(ModelReply))
    def model(name: str) -> dict[str, Any]:
        return described(server.model(name))


def _add_health(app: FastAPI, server: Server) -> None:
    @app.head("/livez", include_in_schema=False)
    @app.get("/livez", response_class=PlainTextResponse, responses=plain(503))
    def livez() -> PlainTextResponse:
        own = (engine for engine in server.engines if isinstance(engine, EngineThread))
        if not server.stopping and any(engine.fault is not None for engine in own):
            return PlainTextResponse("the engine has died: start the server again", 503)
        return PlainTextResponse("alive")

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", response_class=PlainTextResponse, responses=plain(503))
    def readyz() -> PlainTextResponse:
        why_not = server.ready()
        return PlainTextResponse(why_not or "ready", 503 if why_not else 200)

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        return Response(server.metrics.text(), media_type=METRICS_TYPE)


def _add_errors(app: FastAPI) -> None:
    def reply(error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(ApiError)
    async def of_ours(request: Request, error: ApiError) -> JSONResponse:
        return reply(error)

    @app.exception_handler(RequestValidationError)
    async def of_the_body(request: Request, error: RequestValidationError) -> JSONResponse:
        return reply(invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def of_the_route(request: Request, error: HTTPException) -> JSONResponse:
        known = {
            400: ("the body is not JSON that can be read", "invalid_json"),
            404: (f"there is nothing at {request.url.path}", "unknown_url"),
            405: (f"{request.method} is not allowed here", "method_not_supported"),
        }
        message, code = known.get(error.status_code, (str(error.detail), "invalid_value"))
        return reply(ApiError(error.status_code, message, code=code))

    @app.exception_handler(RecursionError)
    async def of_depth(request: Request, error: RecursionError) -> JSONResponse:
        return reply(ApiError(400, "the body is nested too deeply", code="invalid_json"))

    @app.exception_handler(Exception)
    async def of_anything(request: Request, error: Exception) -> JSONResponse:
        return reply(ApiError(500, "the server failed; its log says where", code="internal_error"))


class Counted:
    """An ASGI application that counts requests and their times, and takes none while the server stops."""

    def __init__(self, app: Application, server: Server) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._server.stopping and scope["path"] not in HEALTH:
            error = stopping()
            await JSONResponse(error.body, error.status, error.headers)(scope, receive, send)
            return
        if scope["path"] not in (*HEALTH, *OPEN):
            try:
                scope[KEY] = await self._admit(scope)
            except ApiError as error:
                self._server.metrics.requests.labels("refused", error.status).inc()
                await JSONResponse(error.body, error.status, error.headers)(scope, receive, send)
                return
        started, status = time.perf_counter(), 499

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._server.open += 1
        try:
            await self._app(scope, receive, noted)
        finally:
            self._server.open -= 1
            route = getattr(scope.get("route"), "path", "other")
            self._server.metrics.requests.labels(route, status).inc()
            self._server.metrics.seconds.labels(route).observe(time.perf_counter() - started)

    async def _admit(self, scope: Scope) -> Key | None:
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(sent) > 1:  # a proxy may have looked at another than we would
            raise ApiError(400, "authorization: sent more than once", code="invalid_value")
        return await self._server.accounts.admit(sent[0].decode("latin-1") if sent else "")
