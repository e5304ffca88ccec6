"""What the stages after pretraining will ask for, checked before the training is paid for.

| stage | fails where | known from |
|---|---|---|
| finetune | no training or held-out pair; a source loses all of its pairs; none held out fits | pairs, tokenizer |
| evaluate | no held-out text; a benchmark that cannot be loaded or asked | documents, `evaluate.tasks` |
| release | no held-out text; ONNX without its packages, or of too large a model | documents, `release.formats` |

Everything else that these stages cannot do they say in a notice, and go on. What decides is their own code, called
early; so no rule is written twice. Nothing that is made depends on this: it enters no key. Cost: about a second for
80,000 pairs; lm-eval's import where the recipe has benchmarks.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from storage.errors import DataError, LlmillError
from storage.store.artifacts import Artifact
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.documents import check_heldout
from tasks.release.config import ReleaseConfig
from tasks.tokenize.tokenizer import load_tokenizer
from tasks.train.finetune import FinetuneConfig, check_pairs
from tasks.train.pretrain import PretrainConfig

READS = {"clean": ("documents", "pairs"), "tokenizer": ("tokenizer",)}  # the parts that are checked


@dataclass(frozen=True, slots=True)
class Needs:
    """The settings that say what will be needed."""

    pretrain: PretrainConfig
    finetune: FinetuneConfig
    evaluate: EvaluateConfig
    release: ReleaseConfig


def check_needs(needs: Needs, stages: Collection[str], clean: Artifact, tokenizer: Artifact) -> None:
    """Raise DataError with all that the named stages would fail for, one line each, as far as it can be known now."""
    encoder = load_tokenizer(tokenizer["tokenizer"].path)
    shape = needs.pretrain.shape(encoder.get_vocab_size())

    def pairs() -> None:
        check_pairs(needs.finetune, clean, encoder, shape.context_length)

    def benchmarks() -> None:
        if needs.evaluate.tasks:
            from tasks.evaluate.lm_eval.loading import load_benchmarks

            load_benchmarks(needs.evaluate.tasks, needs.evaluate.seed)

    def onnx() -> None:
        if "onnx" in needs.release.formats:
            from tasks.release.onnx import check_onnx

            check_onnx(shape.parameters)

    checks: dict[Callable[[], None], set[str]] = {
        pairs: {"finetune"},
        lambda: check_heldout(clean["documents"].path): {"evaluate", "release"},
        benchmarks: {"evaluate"},
        onnx: {"release"},
    }
    lacking = []
    for check, asking in checks.items():
        if asking.intersection(stages):
            try:
                check()
            except LlmillError as error:
                lacking.append(str(error))
    if lacking:
        raise DataError("not trained, since a later stage would fail:\n" + "\n".join(lacking))
