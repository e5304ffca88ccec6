"""The samples of a release's card: its answers to held-out prompts, and the ids that were asked."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.store.artifacts import Artifact
from tasks.answer.chat_form import ChatForm
from tasks.answer.prompt_form import PromptForm
from tasks.engine.context import Context
from tasks.release.config import ReleaseConfig

if TYPE_CHECKING:
    from model.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Samples:
    """`lines` are those of samples.json; `ids` what each was asked with."""

    lines: list[dict[str, str]]
    ids: list[list[int]]


def make_samples(
    config: ReleaseConfig,
    prompt_form: PromptForm,
    model: "Transformer",
    form: ChatForm,
    scores: Artifact,
    context: Context,
) -> Samples:
    """The likeliest answers to the first held-out examples that evaluation has left and that fit into the context."""
    from model.parallel import one_thread
    from tasks.answer.batch import Asked, answers
    from tasks.answer.prompt_form import starting_ids
    from tasks.answer.stream import Sampling

    sampling = Sampling(config.max_new_tokens, beams=config.beams, no_repeat=config.no_repeat)
    chosen: list[dict[str, str]] = []
    asked: list[Asked] = []
    for example in json.loads((scores["scores"] / "examples.json").read_bytes()):
        plain = example["form"] != "chat" or prompt_form == "plain"
        ids = starting_ids(form, example["prompt"], "plain" if plain else "chat")  # a pair's prompt is in words
        if len(chosen) < config.samples and len(ids) < model.shape.context_length:
            chosen.append({**example, "form": "text" if plain else "chat"})
            asked.append(Asked(ids, sampling))
    with one_thread():
        texts = answers(model, form.tokenizer, asked, form.control.ends)
    context.progress(len(chosen), config.samples, "samples")
    lines = [{**example, "answer": text} for example, text in zip(chosen, texts, strict=True)]
    return Samples(lines, [list(one.ids) for one in asked])
