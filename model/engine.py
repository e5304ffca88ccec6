"""Many requests at once: each step reads some further tokens of prompts and makes one further token of every answer.

A request joins and leaves between steps (continuous batching, Yu et al. 2022). Its keys and values have a row of one
cache, which is made once. Answers under way lie in the first rows, so that a step is one pass over a window of them;
the prompt that is being read lies behind them; then come free rows. What a free row has read stays: a request whose
tokens begin alike, of the same tenant, goes on from there. A tenant never gains time by what another has asked.

Where adapters stand beside the model (model/adapter_rows.py) each request may name one. Requests of several and of none
are answered in one pass; what was read by one adapter is no beginning for another, since its keys and values differ.

A long prompt is read in pieces, one a step, so that answers under way go on beside it. The same seed gives the same
answer, alone or among others, but where the last digits of sums decide (model/cache.py).
"""

import itertools
from collections import deque
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.adapter_rows import Adapters
from model.cache import KeyValueCache
from model.sampling import GREEDY, Choice, Dice, Ending, check_prompt, choose
from model.search import Found, search_steps
from model.transformer import Transformer
from storage.errors import ConfigError

READ_TOKENS = 512  # of prompts a step: what an answer under way waits for at most


@dataclass(eq=False, slots=True)
class Request:
    """Go on from `ids` with up to `most` tokens, to one of `stop_ids` (which is not part of the answer).

    With `likeliest` each token comes with its log-probability and so many alternatives; None leaves them out. With
    several `beams` the likeliest answer is searched for (model/search.py), and comes at once.
    """

    ids: Sequence[int]
    most: int
    choice: Choice = GREEDY
    stop_ids: Collection[int] = ()
    likeliest: int | None = None
    tenant: str = ""
    adapter: str | None = None  # its name beside the model; None: the model alone
    beams: int = 1
    no_repeat: int = 0  # tokens in a row that a searched answer never says twice; 0: it may
    reused: int = 0  # tokens of `ids` that were read before, once it is under way
    begun: bool = False  # whether it has been under way


@dataclass(frozen=True, slots=True)
class Made:
    """A further token of a request, its end, or both.

    `log_probability` is the model's own, before temperature; `likeliest` are tokens with theirs, the highest first.
    """

    request: Request
    token: int | None
    ending: Ending | None
    log_probability: float = 0.0
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class _Row:
    """What a row of the cache has read, for whom, and by which adapter."""

    tenant: str = ""
    adapter: str | None = None
    tokens: list[int] = field(default_factory=list)  # those read
    used: int = 0  # when it was free the last time


@dataclass(slots=True)
class _Going:
    """A request that has a row."""

    request: Request
    dice: Dice
    unread: list[int]  # of the prompt, then the newest token
    made: int = 0


class Engine:
    """The requests of one model, which take turns by `step`."""

    def __init__(
        self, model: Transformer, rows: int, capacity: int | None = None, adapters: Adapters | None = None
    ) -> None:
        """For `rows` requests at once, each of `capacity` tokens with its answer (by default a whole context)."""
        self.model, self._adapters = model, adapters
        self.capacity = min(capacity or model.shape.context_length, model.shape.context_length)
        self._cache = KeyValueCache(model.shape, rows, self.capacity, model.device, model.compute_dtype)
        self._rows = [_Row() for _ in range(rows)]
        self._answering: list[_Going] = []  # in the first rows
        self._reading: _Going | None = None  # in the row behind them
        self._waiting: deque[Request] = deque()
        self._searches: deque[Request] = deque()  # one at a time: each needs as many rows as it has beams
        self._search: Generator[None, None, Found] | None = None  # of the first of them
        self.failed: list[tuple[Request, Exception]] = []  # searches that ended so in the last step
        self._clock = itertools.count(1)

    @property
    def running(self) -> int:
        """Requests that have a row."""
        return len(self._answering) + (self._reading is not None) + (self._search is not None)

    @property
    def waiting(self) -> int:
        """Requests that have none yet."""
        return len(self._waiting) + len(self._searches) - (self._search is not None)

    def submit(self, request: Request) -> None:
        """Put a request in line; DataError for a prompt that leaves no room in the context, ConfigError for an adapter
        that is not there."""
        check_prompt(self.capacity, request.ids)
        self.choose([request.adapter])
        (self._waiting if request.beams == 1 else self._searches).append(request)

    def cancel(self, request: Request) -> None:
        """Forget a request, wherever it is; one that has ended is none any more."""
        if request in self._waiting:
            self._waiting.remove(request)
        elif request in self._searches:
            if request is self._searches[0]:
                self._search = None
            self._searches.remove(request)
        elif self._reading is not None and self._reading.request is request:
            self._reading = None
            self._leave_row(len(self._answering))
        else:
            for place, going in enumerate(self._answering):
                if going.request is request:
                    self._leave(place)
                    return

    def choose(self, adapters: Sequence[str | None]) -> None:
        """Which adapter each row of the next pass has, whoever makes it."""
        if self._adapters is not None:
            self._adapters.choose(adapters)
        elif any(name is not None for name in adapters):
            raise ConfigError("no adapter stands beside this model")

    @torch.inference_mode()
    def step(self) -> list[Made]:
        """Read on in prompts, and make one token of each answer; returns what was made."""
        self.failed = []
        self._read()
        made = self._answer() if self._answering else []
        return made + self._search_on() if self._searches else made

    def _read(self) -> None:
        """Up to READ_TOKENS of the prompts in line. One that is read but for its last token is answered from this
        step on, which reads that one with the newest of the others."""
        room = READ_TOKENS
        while room > 0:
            if self._reading is None:
                if not self._waiting or len(self._answering) == len(self._rows):
                    return
                self._reading = self._join(self._waiting.popleft())
            going = self._reading
            piece = going.unread[: min(room, len(going.unread) - 1)]
            if piece:
                self._pass([piece], len(self._answering))
            going.unread = going.unread[len(piece) :]
            room -= len(piece) + 1
            if len(going.unread) == 1:
                self._answering.append(going)
                self._reading = None

    def _answer(self) -> list[Made]:
        going = self._answering
        hidden = self._pass([one.unread for one in going], 0)
        scores = self.model.logits(hidden).cpu()
        tokens = choose(scores, [one.request.choice for one in going], [one.dice for one in going])
        made = []
        for place, (one, token) in enumerate(zip(going, tokens, strict=True)):
            one.unread, one.made = [token], one.made + 1
            made.append(self._made(one, token, scores, place))
        for place in reversed(range(len(made))):
            if made[place].ending is not None:
                self._leave(place)
        return made

    def _search_on(self) -> list[Made]:
        request = self._searches[0]
        request.begun = True
        self.choose([request.adapter])
        if self._search is None:
            self._search = search_steps(
                self.model, request.ids, request.most, request.beams, request.no_repeat, request.stop_ids
            )
        try:
            next(self._search)
        except StopIteration as end:
            self._search = None
            self._searches.popleft()
            tokens, ending = end.value
            return [*(Made(request, token, None) for token in tokens), Made(request, None, ending)]
        except Exception as error:  # of this one alone: the rows are not its own
            self._search = None
            self._searches.popleft()
            self.failed.append((request, error))
        return []

    def _made(self, one: _Going, token: int, scores: Tensor, place: int) -> Made:
        request = one.request
        if token in request.stop_ids:
            return Made(request, None, "stop")
        full = one.made == request.most or len(request.ids) + one.made > self.capacity
        ending: Ending | None = "length" if full else None
        if request.likeliest is None:
            return Made(request, token, ending)
        log_probabilities = torch.log_softmax(scores[place].float(), dim=-1)
        top = log_probabilities.topk(min(request.likeliest, len(log_probabilities)))
        likeliest = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        return Made(request, token, ending, float(log_probabilities[token]), likeliest)

    def _pass(self, ids: list[list[int]], first: int) -> Tensor:
        """Read equally many further tokens in each of some neighbouring rows: their last hidden states (B, D)."""
        rows = self._rows[first : first + len(ids)]
        window = self._cache.window(first, [len(row.tokens) for row in rows])
        self.choose([row.adapter for row in rows])
        hidden = self.model(torch.tensor(ids, device=self.model.device), window)
        for row, read in zip(rows, ids, strict=True):
            row.tokens += read
        return hidden[:, -1]

    def _join(self, request: Request) -> _Going:
        """Give a request the row behind the answers under way, with what is there of its prompt already.

        A free row of which at least half is its beginning is taken itself, else the one that was free for the longest,
        into which the beginning is copied. The last token is always read: what follows is asked of it.
        """
        place = len(self._answering)
        ids = list(request.ids)
        own = request.tenant, request.adapter
        shared = [_common(ids[:-1], row.tokens) if (row.tenant, row.adapter) == own else 0 for row in self._rows]
        source = max(range(len(self._rows)), key=lambda number: (shared[number], number >= place))
        known = shared[source]
        if source >= place and 0 < len(self._rows[source].tokens) <= 2 * known:
            chosen = source
        else:
            chosen = min(range(place, len(self._rows)), key=lambda number: self._rows[number].used)
        self._swap(place, chosen)
        source = {place: chosen, chosen: place}.get(source, source)
        if known and source != place:
            self._cache.copy(source, place, known)
        request.reused, request.begun = known, True
        self._rows[place] = _Row(*own, ids[:known])
        return _Going(request, Dice(request.choice.seed), ids[known:])

    def _leave(self, place: int) -> None:
        """Free the row of an answer; the last answer takes its place, and a prompt that is read follows."""
        last = len(self._answering) - 1
        self._swap(place, last)
        self._answering[place] = self._answering[last]
        self._answering.pop()
        if self._reading is not None:
            self._swap(last, last + 1)
        self._leave_row(last + (self._reading is not None))

    def _leave_row(self, number: int) -> None:
        self._rows[number].used = next(self._clock)

    def _swap(self, one: int, other: int) -> None:
        if one == other:
            return
        rows = self._rows
        self._cache.swap(one, other, max(len(rows[one].tokens), len(rows[other].tokens)))
        rows[one], rows[other] = rows[other], rows[one]


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
