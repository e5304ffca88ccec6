"""Stage classify: labelled texts in, a model out that tells their classes apart, and how well it does.

In: a base model, the tokenizer, the clean labels. Out: `model`, a folder that transformers loads as a model
`ForSequenceClassification` with its tokenizer (what `token_pairs` adds, tasks/classify/token_pairs.py, stands beside it
and is read by `llmill classify` alone); `curve`; `class_scores` (scores.json: accuracy, precision, recall and F1
of each class, the confusion, calibration, and logistic regressions on the words beside it); `items` (items.parquet, a
row for each held-out text). A text that is longer than the context is read up to there; how many are is counted.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from model.huggingface import read_shape
from storage.canonical import digest_of
from storage.documents import HELDOUT, TRAIN, Pair, read_pairs, write_rows
from storage.errors import DataError
from storage.files import clone_or_copy
from storage.listing import first_few
from storage.store.artifacts import Artifact, Part
from tasks.classify.config import ClassifyConfig
from tasks.classify.figures import best_baseline, figures_of, linear_baselines
from tasks.classify.token_pairs import Doubles, TokenPairs, together
from tasks.engine.context import Context, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.statistics.intervals import rounded
from tasks.tokenize.control import MODEL_CONFIG, TOKENIZER, TOKENIZER_CONFIG, read_control, read_object
from tasks.tokenize.tokenizer import load_tokenizer, text_ids
from tasks.train.config import Rates, observe_device
from tasks.train.jobs import training_job
from tasks.train.trainer_process import notices_of, train, write_curve, write_training
from tasks.words import folded

if TYPE_CHECKING:
    from model.job import Source

MOST_CLASSES = 10_000
A_POINT = 0.01  # of accuracy
ITEMS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("found", pa.string(), nullable=False),
        pa.field("probability", pa.float64(), nullable=False),  # of what was found
        pa.field("baseline", pa.string(), nullable=False),  # what the best one says
    ]
)


@dataclass(frozen=True, slots=True)
class Texts:
    """Labelled texts of one split, with the ids that the model reads and the numbers of their classes."""

    pairs: list[Pair]
    ids: list[list[int]]
    numbers: list[int]
    cut: int  # texts that are longer than the context


@stage(
    "classify",
    parts=("model", "curve", "class_scores", "items"),
    reads={"base": ("model",), "tokenizer": ("tokenizer",), "clean": ("labels",)},
    observe=observe_device,
    programs=("model.trainer",),
    libraries=("torch", "tiktoken", "tokenizers", "pyarrow", "scikit-learn", "scipy", UNICODE),
    about="tasks.classify.about.CLASSIFY",
)
def classify(
    config: ClassifyConfig, base: Artifact, tokenizer: Artifact, clean: Artifact, *, context: Context
) -> Summary:
    """Teach a base model to tell classes of texts apart. Summary: texts by fate, figures on held-out ones."""
    from model.classes import class_scores
    from model.parallel import Workers
    from model.transformer import load_model

    shape = read_shape(base["model"].path)
    labels = Labels.of(config, clean)
    training, heldout = (
        encode_texts(tokenizer["tokenizer"].path, pairs, labels.classes, shape.context_length)
        for pairs in (labels.training, labels.heldout)
    )
    sources = {name: _write(context.work / name, texts) for name, texts in (("train", training), ("heldout", heldout))}
    job = training_job(
        config,
        replace(shape, classes=labels.classes),
        context,
        objective="classes",
        steps=config.steps or max(1, round(config.epochs * len(training.pairs) / config.texts_per_step)),
        rates=Rates(config.matrix_rate, config.embedding_rate),
        data=sources["train"],
        data_digest=_digest(base, tokenizer, training),
        rows_per_step=config.texts_per_step,
        validation={"heldout": sources["heldout"]},
        initial=str(base["model"].path),
    )
    result = train(job, context)
    last = write_curve(context.work / "metrics.jsonl", context.part("curve") / "curve.jsonl")
    write_training("classify", job, result, last, before=base["model"])
    _make_whole(context.part("model"), tokenizer["tokenizer"])
    model = load_model(context.part("model"), job.device)
    alone = class_scores(model, heldout.ids, Workers(config.threads))
    scores = _with_pairs(context.part("model"), training, heldout, alone) if config.token_pairs else alone
    figures = _write_scores(context, labels.classes, training, heldout, scores, alone)
    return {
        "texts": labels.read,
        "training_texts": len(training.pairs),
        "heldout_texts": labels.heldout_total,
        "classes": len(labels.classes),
        "accuracy": figures["accuracy"],
        "macro_f1": figures["macro_f1"],
        "baseline_accuracy": figures["baseline_accuracy"],
        "calibration_error": figures["calibration_error"],
        "scored_texts": len(heldout.pairs),
        "dropped_leaking": labels.leaking,
        "other_labels": labels.other.total(),
        "unseen_labels": labels.unseen.total(),
        "cut_texts": training.cut + heldout.cut,
        "parameters": result["parameters"],
        "steps": result["steps"],
        "tokens": sum(map(len, training.ids)),
        "training_loss": last["loss"],
        "heldout_loss": result["after"]["heldout_loss"],
        "skipped_updates": result["skipped"],
        **notices_of(result, [*_notices(labels, training, heldout, shape.context_length), *_advice(config, figures)]),
    }


@dataclass(frozen=True, slots=True)
class Labels:
    """The texts that are learned and scored, and what was left out: labels that the recipe does not name, held-out
    texts of labels that no training text has, and training texts that are held out too, without regard to case and
    spacing."""

    classes: tuple[str, ...]
    training: list[Pair]
    heldout: list[Pair]
    heldout_total: int
    read: int
    other: Counter[str]
    unseen: Counter[str]
    leaking: int

    @classmethod
    def of(cls, config: ClassifyConfig, clean: Artifact) -> "Labels":
        """Choose among the clean labelled texts; DataError where there is nothing to tell apart or to score."""
        everything = [pair for file in clean["labels"].files for pair in read_pairs(file.path)]
        if not everything:
            raise DataError(
                "classify: there is no labelled text: name a source of text and label in collect.conversations"
            )
        wanted = [pair for pair in everything if not config.labels or pair.answer in config.labels]
        heldout_texts = {folded(pair.prompt) for pair in wanted if pair.split == HELDOUT}
        given = [pair for pair in wanted if pair.split == TRAIN]
        training = [pair for pair in given if folded(pair.prompt) not in heldout_texts]
        seen = Counter(pair.answer for pair in training)
        missing = [label for label in config.labels if not seen[label]]
        if missing:
            there = ", ".join(first_few(sorted({pair.answer for pair in everything}), 10, "labels"))
            raise DataError(f"classify.labels: no training text has the label {missing[0]!r}. The data have: {there}")
        if len(seen) < 2:
            only = f"all have the label {next(iter(seen))!r}" if seen else "there is none to train on"
            raise DataError(f"classify: two labels or more can be told apart, and of the labelled texts {only}")
        if len(seen) > MOST_CLASSES:
            raise DataError(f"classify: {len(seen):,} different labels are none: is the field with the label right?")
        heldout = [pair for pair in wanted if pair.split == HELDOUT and seen[pair.answer]]
        if not heldout:
            raise DataError(
                "classify: no labelled text is held out to score the model on: raise collect.heldout_fraction"
            )
        return cls(
            classes=config.labels or tuple(sorted(seen)),
            training=training,
            heldout=sorted(heldout, key=lambda pair: pair.id)[: config.heldout_texts],
            heldout_total=len(heldout),
            read=len(everything),
            other=Counter(pair.answer for pair in everything if config.labels and pair.answer not in config.labels),
            unseen=Counter(pair.answer for pair in wanted if not seen[pair.answer]),
            leaking=len(given) - len(training),
        )


def encode_texts(folder: Path, pairs: Sequence[Pair], classes: Sequence[str], context_length: int) -> Texts:
    """Texts as a classifier reads them, by the tokenizer of a folder."""
    numbers = {name: number for number, name in enumerate(classes)}
    ids = readable_ids(folder, [pair.prompt for pair in pairs])
    cut = sum(len(one) > context_length for one in ids)
    return Texts(list(pairs), [one[:context_length] for one in ids], [numbers[pair.answer] for pair in pairs], cut)


def readable_ids(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """The ids of whole texts after the mark that begins one."""
    start = read_control(folder).start
    return [[start, *ids] for ids in text_ids(load_tokenizer(folder), list(texts))]


def _make_whole(folder: Path, tokenizer: Part) -> None:
    """Put the tokenizer beside a classifier, and its ids into `config.json`: transformers reads a class where the last
    token is that does not fill up. There too a text begins with the mark that it begins with here, and ends with none.
    """
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    for file in tokenizer.files:
        clone_or_copy(file.path, folder / file.name)
    control = read_control(tokenizer.path)
    whole = Tokenizer.from_file(str(folder / TOKENIZER))
    start = str(whole.id_to_token(control.start))
    whole.post_processor = TemplateProcessing(single=[start, "$A"], special_tokens=[(start, control.start)])
    (folder / TOKENIZER).write_text(whole.to_str(pretty=True) + "\n", encoding="utf-8")
    for name, more in (
        (TOKENIZER_CONFIG, {"tokenizer_class": "PreTrainedTokenizerFast"}),
        (MODEL_CONFIG, control.settings),
    ):
        text = json.dumps(read_object(folder / name) | more, indent=2, sort_keys=True)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def _write(folder: Path, texts: Texts) -> "Source":
    from model.batches import ExampleSet
    from model.classes import labelled
    from model.job import Source

    ExampleSet.write(folder, [labelled(ids, number) for ids, number in zip(texts.ids, texts.numbers, strict=True)])
    return Source("classes", str(folder))


def _with_pairs(folder: Path, training: Texts, heldout: Texts, alone: Doubles) -> Doubles:
    """Put the linear model of tokens and pairs beside the transformer; returns the scores of both together."""
    pairs = TokenPairs.fit(training.ids, np.array(training.numbers), alone.shape[1])
    pairs.save(folder)
    return together(alone, pairs.scores(heldout.ids))


def _write_scores(
    context: Context, classes: Sequence[str], training: Texts, heldout: Texts, scores: Doubles, alone: Doubles
) -> dict[str, Any]:
    """The parts class_scores and items, from log-probabilities of held-out texts (texts, classes), those of the
    transformer alone beside them; returns the figures."""
    probabilities, true = np.exp(scores), np.array(heldout.numbers)
    said, asked = ([pair.prompt for pair in texts.pairs] for texts in (training, heldout))
    beside = linear_baselines(said, np.array(training.numbers), asked)
    groups = [pair.group for pair in heldout.pairs]
    figures = figures_of(classes, true, probabilities, beside, groups)
    if scores is not alone:
        figures["transformer_accuracy"] = rounded(float((alone.argmax(axis=1) == true).mean()))
    text = json.dumps({"labels": list(classes), **figures}, indent=2, sort_keys=True, ensure_ascii=False)
    (context.part("class_scores") / "scores.json").write_text(text + "\n", encoding="utf-8")
    rows = [
        {
            "id": pair.id,
            "label": pair.answer,
            "found": classes[int(one.argmax())],
            "probability": float(one.max()),
            "baseline": classes[int(other)],
        }
        for pair, one, other in zip(heldout.pairs, probabilities, beside[best_baseline(true, beside)], strict=True)
    ]
    write_rows(context.part("items") / "items.parquet", rows, ITEMS_SCHEMA)
    return figures


def _notices(labels: Labels, training: Texts, heldout: Texts, context_length: int) -> list[str]:
    lines = []
    if labels.leaking:
        lines.append(
            f"classify: {labels.leaking:,} training texts are held out too, without regard to case and spacing: they "
            "are not learned"
        )
    if labels.unseen:
        named = ", ".join(f"{name} ({count:,})" for name, count in labels.unseen.most_common(3))
        lines.append(
            f"classify: {labels.unseen.total():,} held-out texts have labels that no training text has, and are not "
            f"scored: {named}"
        )
    cut, texts = training.cut + heldout.cut, len(training.pairs) + len(heldout.pairs)
    if cut:
        lines.append(
            f"classify: {cut:,} of {texts:,} texts are longer than the context of {context_length:,} tokens and were "
            "read up to there (pretrain.context_length)"
        )
    return lines


def _advice(config: ClassifyConfig, figures: Mapping[str, Any]) -> list[str]:
    """What may help where the words alone say more."""
    if config.token_pairs or figures["gain"] > -A_POINT:
        return []
    return [
        f"classify: logistic regression on {figures['baseline']} tells {-100 * figures['gain']:.1f} points more apart: "
        "try classify.token_pairs=true, which counts pairs of tokens too"
    ]


def _digest(base: Artifact, tokenizer: Artifact, texts: Texts) -> str:
    rows = [[pair.prompt, pair.answer] for pair in texts.pairs]
    return digest_of([base["model"].digest, tokenizer["tokenizer"].digest, rows])
