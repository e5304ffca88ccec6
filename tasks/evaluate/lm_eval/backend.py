"""Our models and n-gram baselines as a model of lm-eval: its requests become ids, our scorers answer them.

Log-likelihoods are of (context ids, continuation ids). A rolling log-likelihood is cut into disjoint windows as
lm-eval's own `hf` backend does (each begins with one token of context), so that the figure is the same; the strided
windows of the held-out text give lower and more honest ones. Generation goes on until a stop string, the model's own
end of an answer or a text, or the number of tokens that the task allows. Chats are in the model's own form: lm-eval
handles them as text in which each control token is marked (tasks/answer/chat_form.py).
"""

import functools
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.documents import Message
from storage.tokens import END_OF_TEXT
from tasks.answer.batch import Asked
from tasks.answer.chat_form import MARK, ChatForm
from tasks.answer.stream import Sampling
from tasks.statistics.intervals import LARGEST
from tasks.tokenize.control import special_tokens

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM

Request = tuple[list[int], list[int]]
Window = tuple[tuple[int, ...], tuple[int, ...]]  # a request as a key of a dictionary
Scorer = Callable[[Sequence[Request]], list[tuple[float, bool]]]

DEFAULT_NEW_TOKENS = 256  # lm-eval's, where a task does not say


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is generated from: `ids`, and when to stop. Temperature 0 is greedy; equal seeds give equal text."""

    ids: list[int]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    until: tuple[str, ...]


Generator = Callable[[ChatForm, Sequence[Prompt]], list[str]]


def asked_of(prompts: Sequence[Prompt]) -> list[Asked]:
    """Prompts as the engine is asked them (tasks/answer/batch.py)."""
    return [
        Asked(one.ids, Sampling(one.max_new_tokens, one.temperature, one.top_p, one.seed, one.until)) for one in prompts
    ]


def bound_aggregations(task: Any) -> None:
    """Have a task of lm-eval answer LARGEST where its mean over items overflows, and NaN where it divides by zero.

    lm-eval's own perplexities are e to the mean nats of a word, and end the run where a text is one long word.
    """
    aggregation = task.aggregation

    def bounded(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(function)
        def answered(values: Any) -> Any:
            try:
                found = function(values)
            except OverflowError:
                return LARGEST
            except ZeroDivisionError:
                return math.nan
            return LARGEST if found == math.inf else found

        return answered

    task.aggregation = lambda: {metric: function and bounded(function) for metric, function in aggregation().items()}


def chat_text(form: ChatForm, messages: Sequence[dict[str, str]]) -> str:
    """lm-eval's messages as marked text: few-shot examples go into the one prompt, `gen_prefix` begins the answer."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    prompt = "\n\n".join(message["content"] for message in messages if message["role"] not in ("system", "assistant"))
    begun = "".join(message["content"] for message in messages if message["role"] == "assistant")
    asked = [Message("system", system)] * bool(system) + [Message("user", prompt)]
    return form.marked(asked) + begun.replace(MARK, "")


@dataclass(frozen=True)
class _Answering:
    """Answers what lm-eval asks by our functions; the fields are the arguments of `scorer_lm`."""

    encode: Callable[[str], list[int]]
    score: Scorer
    context_length: int
    generate: Callable[[Sequence[Prompt]], list[str]] | None
    seed: int
    start: int
    form: ChatForm | None

    @property
    def chat_form(self) -> ChatForm:
        if self.form is None:
            raise NotImplementedError("this scorer knows no chats")
        return self.form

    @functools.cached_property
    def control(self) -> frozenset[int]:
        return frozenset({self.start} if self.form is None else special_tokens(self.form.tokenizer))

    def ids(self, text: str) -> list[int]:
        return self.form.marked_ids(text) if self.form is not None and MARK in text else self.encode(text)

    def begun(self, context: list[int]) -> list[int]:
        """A context as the model has seen them in training: after the mark that begins a text, or in chat form."""
        return context if context and context[0] in self.control else [self.start, *context]

    def likelihoods(self, requests: Iterable[Request]) -> list[tuple[float, bool]]:
        return self._of_windows(
            [_within(self.begun(context), answer, self.context_length) for context, answer in requests]
        )

    def rolling_likelihoods(self, texts: Iterable[str]) -> list[float]:
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        documents = []
        for text in texts:
            pairs = get_rolling_token_windows(self.ids(text), self.start, self.context_length, 1)
            documents.append([_frozen(*make_disjoint_window(pair)) for pair in pairs])
        return [nats for nats, _ in self._of_windows(documents)]

    def generations(self, requests: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
        """The text after each prompt, under its task's `generation_kwargs`."""
        if self.generate is None:
            raise NotImplementedError("this scorer does not generate")
        times: Counter[str] = Counter()
        prompts = []
        for text, settings in requests:
            identity = f"{self.seed}\0{times[text]}\0{text}"
            prompts.append(_prompt(self.begun(self.ids(text)), settings, self.context_length, identity))
            times[text] += 1
        return self.generate(prompts)

    def _of_windows(self, wanted: Sequence[Sequence[Window]]) -> list[tuple[float, bool]]:
        """Log-likelihood and greediness of each text, given as windows. Equal windows (a distractor that stands in
        several items) are scored once."""
        unique = list(dict.fromkeys(window for windows in wanted for window in windows))
        scored = self.score([(list(context), list(continuation)) for context, continuation in unique])
        answers = dict(zip(unique, scored, strict=True))
        return [
            (sum(answers[window][0] for window in windows), all(answers[window][1] for window in windows))
            for windows in wanted
        ]


def scorer_lm(
    encode: Callable[[str], list[int]],
    score: Scorer,
    context_length: int = 0,
    generate: Callable[[Sequence[Prompt]], list[str]] | None = None,
    seed: int = 0,
    *,
    start: int = END_OF_TEXT,
    form: ChatForm | None = None,
    apart: bool = False,
) -> "TemplateLM":
    """An lm-eval model; made inside a function because its base class is lm-eval's.

    `context_length` cuts rolling windows and prompts; `generate` and `form` are for tasks that generate and that chat;
    `start` begins a text. `apart`: contexts and continuations are encoded by themselves. lm-eval encodes both at once
    and cuts by the number of the context's tokens; a script without spaces has no border of tokens there.
    """
    from lm_eval.api.model import TemplateLM

    answering = _Answering(encode, score, context_length, generate, seed, start, form)

    class ScorerLM(TemplateLM):
        """Log-likelihoods from a scoring function; the context of a request without one is what begins a text."""

        tokenizer_name = "llmill"

        @property
        def eot_token_id(self) -> int:
            return answering.start

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            return answering.ids(string)

        def chat_template(self, chat_template: bool | str = False) -> str:
            return "llmill"

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return chat_text(answering.chat_form, chat_history)

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            if apart or (MARK in context and context[-1:].isspace()):  # of a template: lm-eval would score it too
                return self.tok_encode(context), self.tok_encode(continuation)
            return super()._encode_pair(context, continuation)

        def _loglikelihood_tokens(
            self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
        ) -> list[tuple[float, bool]]:
            return answering.likelihoods((context, continuation) for _, context, continuation in requests)

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
            return super().loglikelihood(requests, disable_tqdm=True)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
            return answering.rolling_likelihoods(request.args[0] for request in requests)

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            return answering.generations(request.args[:2] for request in requests)

    return ScorerLM()


def _prompt(ids: list[int], settings: dict[str, Any], context_length: int, identity: str) -> Prompt:
    """A prompt under a task's `generation_kwargs`. At most half of the context is generated; of a prompt too long for
    the rest the beginning is lost."""
    from lm_eval.models.utils import normalize_gen_kwargs

    kwargs: dict[str, Any] = dict(normalize_gen_kwargs(settings, DEFAULT_NEW_TOKENS))
    new = max(1, min(int(kwargs["max_gen_toks"]), context_length // 2))
    sampled = bool(kwargs.get("do_sample"))
    return Prompt(
        ids[-(context_length - new) :],
        new,
        float(kwargs.get("temperature") or 1.0) if sampled else 0.0,
        float(kwargs.get("top_p", 1.0)),
        int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big"),
        tuple(stop for stop in kwargs["until"] if stop),
    )


def _within(context: list[int], continuation: list[int], context_length: int) -> list[Window]:
    """A request as windows: one, unless the continuation alone is longer than the model's context. Then each further
    window scores half a context after as much as fits before it."""
    if not 0 < context_length < len(continuation):
        return [_frozen(context, continuation)]
    ends = [*range(context_length, len(continuation), max(1, context_length // 2)), len(continuation)]
    starts = [0, *ends[:-1]]
    return [
        _frozen((*context, *continuation[:start]), continuation[start:end])
        for start, end in zip(starts, ends, strict=True)
    ]


def _frozen(context: Sequence[int], continuation: Sequence[int]) -> Window:
    return tuple(context), tuple(continuation)
