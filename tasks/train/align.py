"""Align a fine-tuned model: of two answers the chosen one is to become likelier (model/preferences.py).

In: the fine-tuned model, the tokenizer, the clean preferences, and for DPO the likelihoods of the stage reference.
Out: `model`, `curve`, and `adapter`, as of fine-tuning. Figures on held-out preferences, before and after: the share in
which the chosen answer is rewarded more than the rejected one, and by how much. For DPO the reward of an answer is how
much likelier it has become, for SimPO its likelihood by the token.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from model.huggingface import read_shape
from storage.canonical import digest_of
from storage.documents import Pair
from storage.errors import DataError
from storage.store.artifacts import Artifact
from tasks.answer.chat_form import ChatForm
from tasks.answer.template_form import needed_chat_form
from tasks.engine.context import Context, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.notices import loss_notices
from tasks.train.config import observe_device
from tasks.train.intervals import of_preferences
from tasks.train.jobs import training_job
from tasks.train.lora import AdaptableConfig, write_about
from tasks.train.pairs import ALIKE, LEAKING, TOO_LONG, Chosen, choose_pairs, cut_notices
from tasks.train.preferences import Both, ReferenceConfig, encode_preferences, preferences_of, read_reference
from tasks.train.trainer_process import notices_of, train, write_curve, write_training

if TYPE_CHECKING:
    from model.job import Source
    from model.preferences import Preference

BETAS = {"dpo": 0.1, "simpo": 2.0}  # as in both papers
FIELDS = {
    LEAKING: "held-out preferences have their prompts: collect.conversations.group_field, collect.heldout_fraction",
    TOO_LONG: "pretrain.context_length",
    ALIKE: "two answers that are the same, or that filter.redact made so",
}

Kept = Sequence[tuple[Pair, Both]]


class AlignConfig(AdaptableConfig):
    """By which loss preferences are learned, how long, and at what rates."""

    method: Literal["dpo", "simpo"] = Field(
        "dpo", description="dpo compares with the model before; simpo with nothing, by the token."
    )
    beta: float | None = Field(
        None, gt=0, le=1000, description="Weight of a difference in reward; empty: 0.1 for dpo, 2 for simpo."
    )
    margin: float = Field(
        1.0, ge=0, le=100, description="By how much simpo wants the chosen answer to be rewarded more; dpo has none."
    )
    epochs: float = Field(1.0, gt=0, le=100, description="Passes over the training preferences.")
    steps: int | None = Field(None, ge=1, le=10_000_000, description="Optimizer steps, instead of epochs.")
    preferences_per_step: int = Field(32, ge=1, le=65_536, description="Preferences of one optimizer step.")
    heldout_preferences: int = Field(
        500, ge=1, le=100_000, description="Held-out preferences in the sample that is scored."
    )
    matrix_rate: float = Field(0.001, gt=0, le=1, description="Peak learning rate of matrices (Muon).")
    embedding_rate: float = Field(
        0.0002, gt=0, le=1, description="Peak learning rate of embeddings, head and norms (AdamW)."
    )

    dropout: float | None = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share left out in training, as of finetune.dropout; 0: likelihoods compare with those before, of "
        "which nothing is left out.",
    )

    @property
    def compares(self) -> bool:
        """Whether it needs the likelihoods of the stage reference."""
        return self.method == "dpo"

    @property
    def reference(self) -> ReferenceConfig:
        """The config of that stage."""
        return ReferenceConfig(threads=self.threads, device=self.device)

    @property
    def settings(self) -> "Preference":
        """What the trainer takes."""
        from model.preferences import Preference

        return Preference(self.method, self.beta or BETAS[self.method], self.margin if self.method == "simpo" else 0.0)


@stage(
    "align",
    parts=("model", "curve", "adapter"),
    reads={
        "tuned": ("model",),
        "tokenizer": ("tokenizer",),
        "clean": ("preferences",),
        "reference": ("reference",),
    },
    optional=("reference",),
    observe=observe_device,
    programs=("model.trainer",),
    libraries=("torch", "tiktoken", "tokenizers", UNICODE),
    about="tasks.train.about.ALIGN",
)
def align(
    config: AlignConfig,
    tuned: Artifact,
    tokenizer: Artifact,
    clean: Artifact,
    reference: Artifact | None = None,
    *,
    context: Context,
) -> Summary:
    """Make what people chose likelier than what they rejected. Summary: preferences by fate, rewards."""
    shape = read_shape(tuned["model"].path)
    form = needed_chat_form(tokenizer["tokenizer"].path)
    chosen = choose_pairs(preferences_of(clean["preferences"]), config.heldout_preferences)
    kept, too_long, cut = _kept(chosen, form, shape.context_length)
    sources = _write_sets(
        context.work / "preferences", kept, read_reference(reference["reference"]) if reference else {}
    )
    job = training_job(
        config,
        shape,
        context,
        objective="preferences",
        steps=config.steps or max(1, round(config.epochs * len(kept["train"]) / config.preferences_per_step)),
        rates=config.rates,
        data=sources["train"],
        data_digest=_digest(tuned, tokenizer, kept["train"]),
        rows_per_step=config.preferences_per_step,
        validation={"heldout": sources["heldout"]},
        validation_before={"heldout": sources["heldout"]},
        initial=str(tuned["model"].path),
        preference=config.settings,
        adapter=config.lora.settings if config.lora else None,
        adapter_output=str(context.part("adapter")),
    )
    result = train(job, context)
    write_about(config.lora, context.part("adapter"))
    last = write_curve(context.work / "metrics.jsonl", context.part("curve") / "curve.jsonl")
    write_training("align", job, result, last, before=tuned["model"])
    notices = [
        *loss_notices("align", {"source": chosen.tallies(too_long)}, FIELDS, "preferences"),
        *cut_notices("align", cut, shape.context_length),
    ]
    return {
        "preferences": chosen.read,
        "training_preferences": len(kept["train"]),
        "heldout_preferences": chosen.heldout_total,
        "dropped_leaking": chosen.total(LEAKING),
        "dropped_too_long": too_long.total(),
        **({"dropped_alike": chosen.alike} if chosen.alike else {}),
        **({"cut_conversations": cut.total()} if cut else {}),
        "scored_preferences": len(kept["heldout"]),
        "parameters": result["parameters"],
        **({"trained_parameters": result["trained_parameters"]} if config.lora else {}),
        "steps": result["steps"],
        "tokens": result["tokens"],
        "training_loss": last["loss"],
        **_rewards(result, context.work, kept["heldout"]),
        "skipped_updates": result["skipped"],
        **notices_of(result, notices),
    }


def _rewards(result: Mapping[str, Any], work: Path, heldout: Kept) -> Summary:
    """The figures of held-out preferences, before and after."""
    names = ("loss", "win_rate", "margin")
    return {
        **{f"{name}_before": result["before"][f"heldout_{name}"] for name in names},
        **{name: result["after"][f"heldout_{name}"] for name in names},
        **of_preferences(work, [pair.group for pair, _ in heldout]),
    }


def check_preferences(config: AlignConfig, clean: Artifact, form: ChatForm, context_length: int) -> None:
    """Raise the error that alignment would end with: no preference, or none of a source. Needs no model."""
    _kept(choose_pairs(preferences_of(clean["preferences"]), config.heldout_preferences), form, context_length)


def _kept(chosen: Chosen, form: ChatForm, context_length: int) -> tuple[dict[str, Kept], Counter[str], Counter[str]]:
    """The preferences that fit, to train on and to score, and of each source the number of those that do not, and of
    those that were cut to fit.

    DataError where there is nothing to learn from of a source, or nothing to score.
    """
    kept: dict[str, Kept] = {}
    cut: Counter[str] = Counter()
    for name, pairs in (("train", chosen.training), ("heldout", chosen.heldout)):
        encoded = encode_preferences(form, pairs, context_length)
        kept[name] = [one for one in encoded if one]
        cut.update(pair.source for pair, one in zip(pairs, encoded, strict=True) if one and one[0] != pair)
    too_long = Counter(pair.source for pair in chosen.training)
    too_long.subtract(pair.source for pair, _ in kept["train"])
    chosen.check_kept("align", too_long, "preferences")
    for name, split in (("train", "training"), ("heldout", "held-out")):
        if not kept[name]:
            raise DataError(
                f"align: there is no {split} preference that the model sees whole: give more in collect.conversations, "
                "hold out another share of them (collect.heldout_fraction), or raise pretrain.context_length"
            )
    return kept, too_long, cut


def _write_sets(
    folder: Path, kept: Mapping[str, Kept], known: Mapping[str, tuple[float, float]]
) -> dict[str, "Source"]:
    """Each set in a folder of its own, where the trainer reads it."""
    from model.job import Source
    from model.preferences import PreferenceSet

    sources = {}
    for name, members in kept.items():
        examples = [example for _, both in members for example in both]
        likelihoods = [nats for pair, _ in members for nats in (known[pair.id] if known else (0.0, 0.0))]
        PreferenceSet.write(folder / name, examples, likelihoods)
        sources[name] = Source("preferences", str(folder / name))
    return sources


def _digest(tuned: Artifact, tokenizer: Artifact, kept: Kept) -> str:
    texts = [[pair.id, pair.answer, pair.rejected] for pair, _ in kept]
    return digest_of([tuned["model"].digest, tokenizer["tokenizer"].digest, texts])
