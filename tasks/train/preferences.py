"""Preferences for alignment: their two answers as token ids, and how likely the model is that they start from.

The stage `reference` works the likelihoods out once for all settings of the alignment.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from storage.documents import Pair, read_pairs, read_rows, write_rows
from storage.store.artifacts import Artifact, Part
from tasks.answer.chat_form import ChatForm
from tasks.answer.pair_ids import PairIds, fits, pair_ids
from tasks.answer.template_form import needed_chat_form
from tasks.engine.context import Context, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.train.config import DeviceConfig
from tasks.train.device import training_device

if TYPE_CHECKING:
    from model.batches import Example

Both = tuple["Example", "Example"]  # the chosen answer and the rejected one, each after the prompt

REFERENCE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("chosen", pa.float64(), nullable=False),  # log-likelihood of the answer and its end, nats
        pa.field("rejected", pa.float64(), nullable=False),
    ]
)


class ReferenceConfig(DeviceConfig):
    """How the likelihoods are worked out."""


def observe_device(config: ReferenceConfig) -> dict[str, str]:
    """What `auto` stands for on this machine: the last digits of another device's sums differ."""
    return {"device": training_device(config.device)}


@stage(
    "reference",
    parts=("reference",),
    reads={"tuned": ("model",), "tokenizer": ("tokenizer",), "clean": ("preferences",)},
    observe=observe_device,
    libraries=("torch", "tiktoken", "tokenizers", "pyarrow", UNICODE),
    about="tasks.train.about.REFERENCE",
)
def reference(
    config: ReferenceConfig, tuned: Artifact, tokenizer: Artifact, clean: Artifact, *, context: Context
) -> Summary:
    """Score both answers of each preference that the model sees whole, as it is before alignment."""
    from model.generate import load_model
    from model.likelihood import score_continuations
    from model.parallel import Workers

    model = load_model(tuned["model"].path, training_device(config.device))
    form = needed_chat_form(tokenizer["tokenizer"].path)
    pairs = preferences_of(clean["preferences"])
    scored = [one for one in encode_preferences(form, pairs, model.shape.context_length) if one]
    requests = [(example.prompt, example.answer) for _, both in scored for example in both]
    found = score_continuations(
        model,
        requests,
        progress=lambda done, all_: context.progress(done, all_, "answers"),
        workers=Workers(config.threads),
    )
    likelihoods = iter(nats for nats, _ in found)
    rows = [{"id": pair.id, "chosen": next(likelihoods), "rejected": next(likelihoods)} for pair, _ in scored]
    write_rows(context.part("reference") / "reference.parquet", rows, REFERENCE_SCHEMA)
    likelier = sum(chosen > rejected for (chosen, _), (rejected, _) in zip(found[0::2], found[1::2], strict=True))
    return {
        "preferences": len(pairs),
        "scored": len(rows),
        "too_long": len(pairs) - len(rows),
        "parameters": model.shape.parameters,
        "chosen_is_likelier": likelier / len(rows) if rows else 0.0,
    }


def read_reference(part: Part) -> dict[str, tuple[float, float]]:
    """The likelihoods of the chosen and the rejected answer, by id."""
    return {row["id"]: (row["chosen"], row["rejected"]) for file in part.files for row in read_rows(Path(file.path))}


def preferences_of(part: Part) -> list[Pair]:
    """All preferences, in order of the shards."""
    return [pair for file in part.files for pair in read_pairs(file.path)]


def encode_preferences(form: ChatForm, pairs: Sequence[Pair], context_length: int) -> list[tuple[Pair, Both] | None]:
    """Each preference and its two examples, of which the last answer alone is learned; None where one does not fit.

    A conversation that is too long comes without its oldest exchanges, both answers after the same ones.
    """
    both_answers = [each for pair in pairs for each in (pair, replace(pair, answer=pair.rejected))]
    ids = pair_ids(form, both_answers, context_length)
    made: list[tuple[Pair, Both] | None] = []
    for pair, chosen, rejected in zip(pairs, ids[0::2], ids[1::2], strict=True):
        used = replace(pair, earlier=min(chosen.pair.earlier, rejected.pair.earlier, key=len))
        if chosen.pair.earlier != rejected.pair.earlier:  # the longer answer has left less room
            chosen, rejected = pair_ids(form, [used, replace(used, answer=pair.rejected)])
        both = _example(chosen), _example(rejected)
        made.append((used, both) if all(fits(one.prompt, one.answer, context_length) for one in both) else None)
    return made


def _example(ids: PairIds) -> "Example":
    from model.batches import Example

    return Example(ids.prompt, [*ids.answer, ids.end], len(ids.pair.answer.encode()))
