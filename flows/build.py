"""The pipeline: from sources of text to a released language model, and the recipe that a run of it follows.

`build` is the one definition of the DAG, for a model from nothing and for one that goes on from a champion. Under the
planner each line answers what would happen; under the builder it happens; inside a Prefect flow each line is a task. A
new stage is a line of it and a section of the recipe.
"""

from typing import Any, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from flows.pipeline import Pipeline, stages_called
from flows.validation import with_named_fields
from storage.documents import PREFERENCES
from storage.errors import did_you_mean
from tasks.collect.foreseen import foreseen_parts
from tasks.collect.stage import collect
from tasks.deduplicate.config import DeduplicateConfig
from tasks.deduplicate.stage import deduplicate
from tasks.engine.config import StageConfig
from tasks.engine.context import Execution
from tasks.engine.stage import Output
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.stage import evaluate
from tasks.fetch.config import FetchConfig
from tasks.fetch.stage import fetch
from tasks.filter.config import FilterConfig
from tasks.filter.stage import filter_documents
from tasks.mix.config import MixConfig, MixingConfig
from tasks.mix.section import CollectSection
from tasks.mix.stage import mix
from tasks.release.config import ReleaseConfig
from tasks.release.stage import make_release
from tasks.retrain.config import ContinueConfig, RetrainConfig, is_own_figure
from tasks.tokenize.stage import TokenizeConfig, tokenize
from tasks.tokenize.tokenizer import TokenizerConfig, train_tokenizer
from tasks.train.align import AlignConfig, align
from tasks.train.finetune import FinetuneConfig, finetune
from tasks.train.preferences import ReferenceConfig, reference
from tasks.train.pretrain import PretrainConfig, pretrain


class Recipe(StageConfig):
    """All settings of a run: a section a stage; `execution` says how it is carried out, and enters no key."""

    name: str = Field(
        "custom", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="Name of the recipe; runs are named after it."
    )
    collect: CollectSection = Field(title="Collect", description="Where the text comes from.")
    deduplicate: DeduplicateConfig = Field(
        DeduplicateConfig(), title="Deduplicate", description="Exact and near duplicates."
    )
    filter: FilterConfig = Field(FilterConfig(), title="Filter", description="Quality rules and redaction.")
    tokenizer: TokenizerConfig = Field(TokenizerConfig(), title="Tokenizer", description="The BPE vocabulary.")
    tokenize: TokenizeConfig = Field(TokenizeConfig(), title="Tokenize", description="Token shards.")
    pretrain: PretrainConfig = Field(PretrainConfig(), title="Pretrain", description="The base model.")
    finetune: FinetuneConfig = Field(FinetuneConfig(), title="Fine-tune", description="Supervised on pairs.")
    align: AlignConfig | None = Field(
        None,
        title="Align",
        description="Learning from preferences; empty: by the settings that ship, where the sources hold preferences.",
    )
    evaluate: EvaluateConfig = Field(EvaluateConfig(), title="Evaluate", description="Scores on held-out data.")
    release: ReleaseConfig = Field(ReleaseConfig(), title="Release", description="The folder that is served.")
    retrain: RetrainConfig = Field(
        RetrainConfig(), title="Retrain", description="Going on from the champion, and what it takes to replace it."
    )
    execution: Execution = Field(
        Execution(), title="Execution", description="How the run is carried out; changes no result."
    )

    @property
    def fetching(self) -> FetchConfig:
        """The config of the stage that fetches what is remote of the section collect."""
        return self.collect.fetching

    @property
    def mixing(self) -> MixingConfig | None:
        """The config of the mix, if there is one: as long as pretraining."""
        mix = self.collect.mix
        if mix is None:
            return None
        tokens = self.pretrain.tokens_trained_on(self.pretrain.chosen_context_length)
        return MixingConfig(**{name: getattr(mix, name) for name in MixConfig.model_fields}, training_tokens=tokens)

    @property
    def continuing(self) -> ContinueConfig:
        """The config of pretraining that goes on from a champion."""
        return self.retrain.continuing(self.pretrain)

    @property
    def aligning(self) -> AlignConfig | None:
        """The config of the alignment, if there is one: where it is asked for, or the sources hold preferences."""
        foreseen = self.align is None and PREFERENCES in foreseen_parts(self.collect.collecting)
        return AlignConfig() if foreseen else self.align

    @property
    def referring(self) -> ReferenceConfig | None:
        """The config of the likelihoods that alignment compares with, if it does."""
        align = self.aligning
        if align is None or align.method != "dpo":
            return None
        return ReferenceConfig(threads=align.threads, device=align.device)

    @property
    def releasing(self) -> ReleaseConfig:
        """The config of the release, which is asked in the form that fine-tuning has taught."""
        collect = self.collect
        others = collect.conversations or collect.synthetic or self.finetune.pairs != "collected"
        taught = "docstrings" if collect.docstrings and not others else "chat"
        return self.release.model_copy(update={"prompt_form": self.release.prompt_form or taught})

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """With a field for each stage's limits, so that a form can draw them."""
        return with_named_fields(schema, handler, ("execution", "stages"), BUILD.stage_names)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        for guard in self.retrain.gate.guards:
            if not is_own_figure(guard) and not self.evaluate.tasks:
                raise ValueError(f"retrain.gate.guards: {guard}: no such figure, and evaluate.tasks is empty")
        context, stride = self.pretrain.chosen_context_length, self.evaluate.stride
        if stride is not None and stride > context:
            raise ValueError(f"evaluate.stride ({stride}) is more than the model's context of {context} tokens")
        for name in self.execution.stages:
            if name not in BUILD.stage_names:
                known = ", ".join(BUILD.stage_names)
                near = did_you_mean(name, BUILD.stage_names)
                raise ValueError(f"execution.stages.{name}: unknown key{near}. Known: {known}")
        return self


class Start:
    """Where a model starts, and what it is compared with: from nothing, with nothing. Retraining has a `Start` of its
    own (flows/retrain.py)."""

    def tokenizer(self, recipe: Recipe, clean: Output) -> Output:
        """A tokenizer learned from the text."""
        return train_tokenizer(recipe.tokenizer, clean)

    def base(self, recipe: Recipe, tokens: Output, order: Output | None) -> Output:
        """A base model from random weights."""
        return pretrain(recipe.pretrain, tokens, order)

    def judge(self, recipe: Recipe, tuned: Output, clean: Output, scores: Output) -> None:
        """No verdict: a build is not compared."""


FROM_NOTHING = Start()


def build(recipe: Recipe, start: Start = FROM_NOTHING) -> Output:
    """Text in, tested and released model out."""
    fetched = fetch(recipe.fetching) if recipe.fetching.sources else None
    documents = collect(recipe.collect.collecting, fetched)
    unique = deduplicate(recipe.deduplicate, documents)
    clean = filter_documents(recipe.filter, unique, documents)
    tokenizer = start.tokenizer(recipe, clean)
    tokens = tokenize(recipe.tokenize, clean, tokenizer)
    order = mix(recipe.mixing, tokens, clean, clean) if recipe.mixing else None
    base = start.base(recipe, tokens, order)
    tuned = finetune(recipe.finetune, base, tokenizer, clean)
    if recipe.aligning:
        before = reference(recipe.referring, tuned, tokenizer, clean) if recipe.referring else None
        tuned = align(recipe.aligning, tuned, tokenizer, clean, before)
    scores = evaluate(recipe.evaluate, base, tuned, tokenizer, clean)
    start.judge(recipe, tuned, clean, scores)
    return make_release(recipe.releasing, tuned, tokenizer, scores, clean)


BUILD = Pipeline("build", build, stages_called(build))  # of any recipe: with all stages that there are


def building(recipe: Recipe) -> Pipeline:
    """The pipeline of one recipe: without `fetch` where nothing is remote, without `mix` or `align` where none is."""
    return Pipeline(BUILD.name, build, stages_called(build, recipe))
