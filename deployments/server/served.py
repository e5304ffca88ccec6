"""A model that is served: its release, its engine, and the prompts that it takes."""

import asyncio
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from deployments.server.adapters import AdapterPlace
from deployments.server.engines.choose import AUTO, open_engine
from deployments.server.engines.seam import AnswerEngine
from deployments.server.errors import ApiError, full, late
from deployments.server.golden import check_adapter, check_answers
from deployments.server.protocol import ChatMessage
from deployments.server.reading import Reading, reading_of
from deployments.server.settings import ServerSettings
from model.adapter_config import TENSORS
from model.adapter_rows import Adapters
from model.engine_thread import EngineFullError, EngineThread
from storage.documents import Message
from storage.errors import DataError
from storage.files import is_utf8
from tasks.answer.examples import read_examples
from tasks.answer.golden import read_golden
from tasks.answer.release import Release, ReleaseSettings, release_settings
from tasks.moderate.moderator import Moderator

Judge = Callable[[], Moderator | None]  # opens what judges prompts and answers, where there is something


@dataclass(frozen=True, slots=True)
class Served:
    """One model behind the API. `name` is what requests call it, `digest` what it is, `created` in Unix seconds.

    One with an adapter has the engine of the model that it is beside, whose name is its `parent`, and of whose
    `adapted` it is.
    """

    name: str
    digest: str
    created: int
    release: Release
    settings: ReleaseSettings
    engine: AnswerEngine
    context_length: int  # tokens of prompt and answer together: the model's context, or what memory allows
    memory_bytes: int  # of its weights, and of what it may have read at once; 0 where another machine has them
    engine_name: str  # as the log calls it
    moderator: Moderator | None = None  # what judges its prompts and answers
    examples: tuple[str, ...] = ()  # what its card shows that it was asked
    adapters: Adapters | None = None  # those beside the weights
    parent: str | None = None
    adapted: tuple["Served", ...] = ()

    @property
    def adapter(self) -> str | None:
        """The adapter by which it answers; None: the weights alone."""
        return None if self.parent is None else self.name

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
        if self.adapters is not None:
            self.adapters.choose([self.adapter])
        hidden = self.release.model(torch.tensor([list(ids)]))[0].float().mean(dim=0)
        mean: list[float] = torch.nn.functional.normalize(hidden, dim=0).tolist()
        return mean


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model lies, what requests call it, its digest, what opens the judge of its texts, what tells when it was
    made, in Unix seconds, where somebody knows it better than its files, and the adapters that go beside it."""

    folder: Path
    name: str
    digest: str
    judge: Judge = field(default=lambda: None, compare=False)
    created: Callable[[], int | None] = field(default=lambda: None, compare=False)
    adapters: tuple[AdapterPlace, ...] = field(default=(), compare=False)


def serve_model(place: Place, settings: ServerSettings, engine: str = AUTO) -> Served:
    """Load a model, start its engine (engines/choose.py) and have it answer its golden prompts (golden.py).

    DataError for one that cannot, GoldenError for one that says something else than its release did."""
    said, moderator = release_settings(place.folder), place.judge()
    opened = open_engine(place.folder, engine, place.name, settings, place.adapters)
    if not opened.searches:
        said = said.model_copy(update={"num_beams": 1, "no_repeat_in_answer": 0})
    try:
        created = place.created() or int((place.folder / "config.json").stat().st_mtime)
        served = Served(
            place.name,
            place.digest,
            created,
            opened.release,
            said,
            opened.engine,
            opened.capacity,
            opened.memory_bytes,
            opened.name,
            moderator,
            read_examples(place.folder),
            opened.adapters,
        )
        golden = read_golden(place.folder)
        check_answers(opened.engine, opened.release, golden, opened.rounding, opened.capacity)
        for one in place.adapters:
            check_adapter(opened.engine, opened.release, one.name)
        return replace(served, adapted=tuple(_adapted(served, one) for one in place.adapters))
    except BaseException:
        opened.engine.stop()
        raise


def _adapted(served: Served, place: AdapterPlace) -> Served:
    assert served.adapters is not None
    return replace(
        served,
        name=place.name,
        digest=place.digest(served.digest),
        # It comes after its model; files of the store have no time.
        created=max(served.created, int((place.folder / TENSORS).stat().st_mtime)),
        memory_bytes=served.adapters.bytes_of(place.name),
        parent=served.name,
    )


def folder_digest(folder: Path) -> str:
    """SHA-256 over the digests of a model folder's files, where no store says one."""
    from storage.canonical import digest_file

    files = sorted(path for path in folder.iterdir() if path.is_file())
    return hashlib.sha256("".join(f"{path.name} {digest_file(path)}\n" for path in files).encode()).hexdigest()
