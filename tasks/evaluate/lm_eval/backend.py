"""Our models and n-gram baselines as a model of lm-eval: its requests become ids, our scorers answer them.

Log-likelihoods are of (context ids, continuation ids). A rolling log-likelihood is cut into disjoint windows as
lm-eval's own `hf` backend does (each begins with one token of context), so that the figure is the same; the strided
windows of the held-out text give lower and more honest ones. Generation goes on until a stop string, `<|end|>`,
`<|endoftext|>`, or the number of tokens that the task allows.
"""

import functools
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.tokens import END_OF_TEXT
from tasks.evaluate.statistics.intervals import LARGEST
from tasks.tokenize.tokenizer import ASSISTANT, USER

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM
    from tokenizers import Tokenizer

    from model.transformer import Transformer

Request = tuple[list[int], list[int]]
Window = tuple[tuple[int, ...], tuple[int, ...]]  # a request as a key of a dictionary
Scorer = Callable[[Sequence[Request]], list[tuple[float, bool]]]

DEFAULT_NEW_TOKENS = 256  # lm-eval's, where a task does not say
# Unicode noncharacters for the marks of the chat form while lm-eval handles a prompt as text: no text holds them.
MARKS = {"\ufdd0": END_OF_TEXT, "\ufdd1": USER, "\ufdd2": ASSISTANT}
_MARK = re.compile(f"([{''.join(MARKS)}])")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is generated from: `ids`, and when to stop. Temperature 0 is greedy; equal seeds give equal text."""

    ids: list[int]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    until: tuple[str, ...]


Generator = Callable[["Tokenizer", Sequence[Prompt]], list[str]]


def answer(model: "Transformer", tokenizer: "Tokenizer", prompt: Prompt) -> str:
    """The text that a model gives to a prompt, up to the first stop string that it holds."""
    from tasks.answer.stream import Answer, Sampling

    sampling = Sampling(prompt.max_new_tokens, prompt.temperature, prompt.top_p, prompt.seed, prompt.until)
    return "".join(Answer(model, tokenizer, prompt.ids, sampling))


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


def encode_marked(encode: Callable[[str], list[int]], text: str) -> list[int]:
    """The ids of a text in which MARKS stand for control tokens."""
    if not _MARK.search(text):
        return encode(text)
    pieces = [[MARKS[piece]] if piece in MARKS else encode(piece) for piece in _MARK.split(text) if piece]
    return [token for piece in pieces for token in piece]


def chat_text(messages: Sequence[dict[str, str]]) -> str:
    """The chat form of lm-eval's messages (a system message and few-shot examples go into the one prompt), marked."""
    prompt = "\n\n".join(message["content"] for message in messages if message["role"] != "assistant")
    begun = "".join(message["content"] for message in messages if message["role"] == "assistant")  # `gen_prefix`
    user, assistant = "\ufdd1", "\ufdd2"
    return f"\ufdd0{user}{_MARK.sub('', prompt)}{assistant}{begun}"


@dataclass(frozen=True, slots=True)
class _Answering:
    """Answers what lm-eval asks by our functions; the fields are the arguments of `scorer_lm`."""

    encode: Callable[[str], list[int]]
    score: Scorer
    context_length: int
    generate: Callable[[Sequence[Prompt]], list[str]] | None
    seed: int

    def ids(self, text: str) -> list[int]:
        return encode_marked(self.encode, text)

    def likelihoods(self, requests: Iterable[Request]) -> list[tuple[float, bool]]:
        return self._of_windows([_within(*request, self.context_length) for request in requests])

    def rolling_likelihoods(self, texts: Iterable[str]) -> list[float]:
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        documents = []
        for text in texts:
            pairs = get_rolling_token_windows(self.ids(text), END_OF_TEXT, self.context_length, 1)
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
            prompts.append(_prompt(self.ids(text), settings, self.context_length, identity))
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
    apart: bool = False,
) -> "TemplateLM":
    """An lm-eval model; made inside a function because its base class is lm-eval's.

    `context_length` cuts rolling windows and prompts to generate from; `generate` is needed for such tasks only.
    `apart`: a context and its continuation are encoded each by itself. lm-eval encodes both at once and cuts by the
    number of the context's tokens, which needs a border of tokens between them; a script without spaces has none.
    """
    from lm_eval.api.model import TemplateLM

    answering = _Answering(encode, score, context_length, generate, seed)

    class ScorerLM(TemplateLM):
        """Log-likelihoods from a scoring function; the context of a request without one is `<|endoftext|>`."""

        tokenizer_name = "llmill"

        @property
        def eot_token_id(self) -> int:
            return END_OF_TEXT

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            return answering.ids(string)

        def chat_template(self, chat_template: bool | str = False) -> str:
            return "llmill"

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return chat_text(chat_history)

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            if apart:
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
        list(_after_mark(ids))[-(context_length - new) :],
        new,
        float(kwargs.get("temperature") or 1.0) if sampled else 0.0,
        float(kwargs.get("top_p", 1.0)),
        int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big"),
        tuple(stop for stop in kwargs["until"] if stop),
    )


def _within(context: list[int], continuation: list[int], context_length: int) -> list[Window]:
    """A request as windows: one, unless the continuation alone is longer than the model's context. Then each further
    window scores half a context after as much as fits before it."""
    marked = _after_mark(context)
    if not 0 < context_length < len(continuation):
        return [_frozen(marked, continuation)]
    ends = [*range(context_length, len(continuation), max(1, context_length // 2)), len(continuation)]
    starts = [0, *ends[:-1]]
    return [
        _frozen((*marked, *continuation[:start]), continuation[start:end])
        for start, end in zip(starts, ends, strict=True)
    ]


def _frozen(context: Sequence[int], continuation: Sequence[int]) -> Window:
    return tuple(context), tuple(continuation)


def _after_mark(context: list[int]) -> tuple[int, ...]:
    """A context as the model has seen them in training: after `<|endoftext|>`."""
    return tuple(context) if context[:1] == [END_OF_TEXT] else (END_OF_TEXT, *context)
