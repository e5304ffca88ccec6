"""A model that is served: its release, its engine, and the prompts that it takes."""

import asyncio
import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import torch

from deployments.server.engines.seam import AnswerEngine, Written
from deployments.server.errors import ApiError, full, late
from deployments.server.protocol import ChatMessage
from deployments.server.reading import Reading, reading_of
from deployments.server.settings import ServerSettings
from model.engine import Engine, Made, Request
from model.engine_thread import EngineFullError, EngineThread
from storage.documents import Message
from storage.errors import DataError
from storage.files import is_utf8
from tasks.answer.release import Release, ReleaseSettings, open_release, release_settings

WARM_TOKENS, WARM_SECONDS = 4, 600.0
FEWEST_ROWS, LEAST_CONTEXT = 4, 64


@dataclass(frozen=True, slots=True)
class Served:
    """One model behind the API. `name` is what requests call it, `digest` what it is, `created` in Unix seconds."""

    name: str
    digest: str
    created: int
    release: Release
    settings: ReleaseSettings
    engine: AnswerEngine
    context_length: int  # tokens of prompt and answer together: the model's context, or what memory allows
    memory_bytes: int  # of its weights, and of what it may have read at once

    @property
    def reading(self) -> Reading:
        """How it reads texts."""
        return reading_of(self.release, self.settings.prompt_form)

    def chat_ids(self, messages: Sequence[ChatMessage]) -> list[int]:
        """The ids that an answer to a conversation follows."""
        if self.settings.prompt_form == "plain":
            raise ApiError(
                400,
                f"{self.name} was not taught to chat: it goes on with texts. Use /v1/completions",
                code="unsupported_model",
                param="messages",
            )
        said = [Message(one.speaker, self._read(one.text, f"messages.{place}")) for place, one in enumerate(messages)]
        try:
            return self.reading.conversation(said)
        except DataError as error:  # a template of others may allow less than we do
            raise ApiError(400, str(error), code="invalid_value", param="messages") from None

    def text_ids(self, prompt: str | Sequence[int], param: str) -> list[int]:
        """The ids of a text that goes on; those of a prompt of ids as they are."""
        if isinstance(prompt, str):
            return self.reading.beginning(self._read(prompt, param))
        size = self.release.model.shape.vocabulary_size
        wrong = next((token for token in prompt if not 0 <= token < size), None)
        if wrong is not None:
            raise ApiError(400, f"{param}: {wrong} is no token; they are 0 to {size - 1}", param=param)
        return list(prompt)

    def tokens(self, text: str, param: str) -> list[int]:
        """The ids of a text and nothing else."""
        return self.reading.text(self._read(text, param))

    async def embed(self, texts: Sequence[str | list[int]], seconds: float) -> list[tuple[list[float], int]]:
        """The mean of the last hidden states of each text, of length 1, and how many tokens it has.

        One text is read between two steps of the answers under way. ApiError where it takes longer than it may.
        """
        engine = self.engine
        if not isinstance(engine, EngineThread):
            raise ApiError(400, "this server's engine makes no embeddings", code="unsupported_model", param="model")
        ids = await asyncio.to_thread(
            lambda: [self.text_ids(text, f"input.{place}") for place, text in enumerate(texts)]
        )
        for place, one in enumerate(ids):
            if not 0 < len(one) <= self.context_length:
                raise self.too_long(len(one), 0, f"input.{place}")
        found = []
        try:
            async with asyncio.timeout(seconds):
                for one in ids:
                    mean = await asyncio.wrap_future(engine.call(functools.partial(self._mean, one)))
                    found.append((mean, len(one)))
        except EngineFullError:
            raise full() from None
        except TimeoutError:
            raise late(seconds) from None
        return found

    def room(self, prompt: Sequence[int], most: int | None, param: str) -> int:
        """How many tokens an answer may have; ApiError where prompt and answer do not fit the context."""
        left = self.context_length - len(prompt)
        if left < 1 or (most or 1) > left:
            raise self.too_long(len(prompt), most or 0, param)
        return most or left

    def too_long(self, prompt: int, most: int, param: str) -> ApiError:
        """The error for a prompt that does not fit, with both numbers."""
        asked = f"the prompt has {prompt} tokens" + (f", and {most} are asked for" if most else "")
        message = f"this model's context is {self.context_length} tokens; {asked}: shorten it"
        return ApiError(400, message, code="context_length_exceeded", param=param)

    def _read(self, text: str, param: str) -> str:
        if not is_utf8(text):
            raise ApiError(
                400, f"{param}: half of a surrogate pair, which is no text", code="invalid_value", param=param
            )
        return text

    @torch.inference_mode()
    def _mean(self, ids: Sequence[int]) -> list[float]:
        hidden = self.release.model(torch.tensor([list(ids)]))[0].float().mean(dim=0)
        mean: list[float] = torch.nn.functional.normalize(hidden, dim=0).tolist()
        return mean


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model lies, what requests call it, and its digest."""

    folder: Path
    name: str
    digest: str


def serve_model(place: Place, settings: ServerSettings) -> Served:
    """Load a model, start its engine and have it say something; DataError for one that cannot."""
    said = release_settings(place.folder)
    release = open_release(place.folder)
    rows, capacity = rows_in_memory(release, settings)
    engine = EngineThread(Engine(release.model, rows, capacity), settings.max_waiting)
    created = int((place.folder / "config.json").stat().st_mtime)
    weights = sum(one.numel() * one.element_size() for one in release.model.parameters())
    memory = weights + rows * capacity * token_bytes(release)
    served = Served(place.name, place.digest, created, release, said, engine, capacity, memory)
    try:
        _warm_up(served)
    except BaseException:
        engine.stop()
        raise
    return served


def rows_in_memory(release: Release, settings: ServerSettings) -> tuple[int, int]:
    """How many requests are answered at once, and how many tokens each may have, in `cache_bytes`.

    A long context is cut until FEWEST_ROWS fit. DataError where not even LEAST_CONTEXT tokens of one do.
    """
    shape, token = release.model.shape, token_bytes(release)
    fewest = min(FEWEST_ROWS, settings.rows)
    capacity = min(shape.context_length, settings.cache_bytes // (token * fewest))
    if capacity < min(LEAST_CONTEXT, shape.context_length):
        raise DataError(
            f"a token of this model takes {token:,} bytes of cache; cache_bytes ({settings.cache_bytes:,}) is too "
            f"little for {fewest} requests of {LEAST_CONTEXT} tokens"
        )
    return min(settings.rows, settings.cache_bytes // (token * capacity)), capacity


def token_bytes(release: Release) -> int:
    """What a token takes of the cache."""
    shape = release.model.shape
    return 2 * shape.layers * shape.key_value_heads * shape.head_dim * release.model.compute_dtype.itemsize


def folder_digest(folder: Path) -> str:
    """SHA-256 over the digests of a model folder's files, where no store says one."""
    from storage.canonical import digest_file

    files = sorted(path for path in folder.iterdir() if path.is_file())
    return hashlib.sha256("".join(f"{path.name} {digest_file(path)}\n" for path in files).encode()).hexdigest()


def _warm_up(served: Served) -> None:
    """A few tokens, so that the first user waits for no first time; raises what the model raises."""
    made: SimpleQueue[Made | Written | BaseException] = SimpleQueue()
    request = Request([served.release.control.start], WARM_TOKENS, likeliest=0)
    served.engine.submit(request, made.put, WARM_SECONDS)
    while True:
        one = made.get()
        if isinstance(one, BaseException):
            raise DataError(f"{served.name}: the model fails: {type(one).__name__}: {one}") from one
        values = [said.log_probability for said in one.said] if isinstance(one, Written) else [one.log_probability]
        if not all(map(math.isfinite, values)):
            raise DataError(f"{served.name}: the model's scores are not finite")
        if one.ending is not None:
            return
