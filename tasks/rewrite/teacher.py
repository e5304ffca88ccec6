"""Answers of a model that is asked on this machine, by the project's own engine: a release, or an open model."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from storage.canonical import digest_of
from storage.store.artifacts import Artifact
from tasks.rewrite.answers import ANSWERED, CUT, FAILED, Answer
from tasks.rewrite.config import RewriteConfig

if TYPE_CHECKING:
    from tasks.answer.batch import Said
    from tasks.answer.stream import Sampling


class Teacher:
    """The model of an artifact with the parts `model` and `tokenizer`."""

    def __init__(self, config: RewriteConfig, teacher: Artifact) -> None:
        from model.transformer import load_model
        from tasks.answer.template_form import load_chat_form
        from tasks.tokenize.control import read_control
        from tasks.tokenize.tokenizer import load_tokenizer

        folder = teacher["tokenizer"].path
        self._config = config
        self._model = load_model(teacher["model"].path)
        self._tokenizer, self._control, self._form = (
            load_tokenizer(folder),
            read_control(folder),
            load_chat_form(folder),
        )
        self._parts = {"weights": teacher["model"].digest, "tokenizer": teacher["tokenizer"].digest}

    @property
    def identity(self) -> dict[str, Any]:
        """Who answers, for what is known: what is drawn by another seed is another answer."""
        return self._parts | {"seed": self._config.seed}

    def ask(self, prompts: Sequence[str], keep: Callable[[str, Answer], None]) -> list[Answer]:
        """The answers to prompts, made beside each other, of which `keep` hears; FAILED for one that leaves no room in
        the context."""
        from tasks.answer.batch import Asked, answers_and_endings
        from tasks.answer.prompt_form import plain_ids, starting_ids

        ids = [
            starting_ids(self._form, prompt, "chat")
            if self._form is not None
            else plain_ids(self._tokenizer, self._control, prompt)
            for prompt in prompts
        ]
        fits = [place for place, one in enumerate(ids) if len(one) < self._model.shape.context_length]
        asked = [Asked(ids[place], self._sampling(prompts[place])) for place in fits]
        said = dict(
            zip(fits, answers_and_endings(self._model, self._tokenizer, asked, self._control.ends), strict=True)
        )
        made = [_answer(len(ids[place]), said.get(place)) for place in range(len(prompts))]
        for prompt, answer in zip(prompts, made, strict=True):
            keep(prompt, answer)
        return made

    def _sampling(self, prompt: str) -> "Sampling":
        """Drawn by a seed that prompt and config decide."""
        from tasks.answer.stream import Sampling

        seed = int(digest_of([self._config.seed, prompt])[:8], 16)
        return Sampling(self._config.most_answer_tokens, self._config.temperature, seed=seed)


def _answer(prompt_tokens: int, said: "Said | None") -> Answer:
    """What was said; CUT where it did not come to its own end."""
    if said is None:
        return Answer(FAILED, why=f"a prompt of {prompt_tokens:,} tokens, more than the teacher's context")
    return Answer(CUT if said.ending == "length" else ANSWERED, said.text.strip(), prompt_tokens + said.tokens)
