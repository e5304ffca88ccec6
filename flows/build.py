"""The pipeline: from sources of text to a released language model, and the recipe that a run of it follows.

`build` is the one definition of the DAG, for a model from nothing and for one that goes on from a champion. Under the
planner each line answers what would happen; under the builder it happens; inside a Prefect flow each line is a task. A
new stage is a line of it and a section of the recipe.
"""

from typing import Any, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from flows.origin import FROM_NOTHING, Start
from flows.pipeline import Pipeline, stages_called
from flows.validation import with_named_fields
from storage.documents import LABELS, PAIRS, PREFERENCES
from storage.errors import ConfigError, did_you_mean
from tasks.augment.section import AugmentSection
from tasks.augment.stage import augment
from tasks.classify.config import ClassifyConfig
from tasks.classify.stage import classify
from tasks.collect.config import CollectConfig
from tasks.collect.foreseen import foreseen_parts
from tasks.collect.stage import collect
from tasks.decontaminate.config import DecontaminateSection
from tasks.decontaminate.stage import decontaminate
from tasks.deduplicate.config import DeduplicateConfig
from tasks.deduplicate.stage import deduplicate
from tasks.engine.config import StageConfig
from tasks.engine.context import Execution
from tasks.engine.stage import Output, in_place_of
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.item_runs import BenchmarksConfig, read_items
from tasks.evaluate.item_texts import ItemsConfig, read_asked, unseen_items
from tasks.evaluate.stage import evaluate
from tasks.fetch.config import FetchConfig
from tasks.fetch.stage import fetch
from tasks.filter.config import FilterConfig
from tasks.filter.stage import filter_documents
from tasks.initial.config import ImportConfig, InitialConfig
from tasks.initial.teacher import take_rewriter, take_tutor
from tasks.mix.config import MixConfig, MixingConfig
from tasks.mix.section import CollectSection
from tasks.mix.stage import mix
from tasks.moderate.section import ModerateConfig, ModerateSection, ModeratorConfig
from tasks.moderate.stage import moderate
from tasks.moderate.training import make_moderator
from tasks.release.config import ReleaseConfig
from tasks.release.stage import make_release
from tasks.retrain.config import ContinueConfig, RetrainConfig, is_own_figure
from tasks.rewrite.stage import rewrite
from tasks.tokenize.compression import TokenizeSection, compare_compression
from tasks.tokenize.stage import tokenize
from tasks.tokenize.tokenizer import TokenizerConfig, TokenizerSection
from tasks.train.align import AlignConfig, align
from tasks.train.finetune import FinetuneConfig, finetune
from tasks.train.preferences import reference
from tasks.train.pretrain import PretrainConfig
from tasks.train.sections import FinetuneSection, PretrainSection


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
    moderate: ModerateSection | None = Field(
        None,
        title="Moderate",
        description="Texts that are not wanted, in the data and at `llmill serve`; empty: none.",
    )
    decontaminate: DecontaminateSection = Field(
        DecontaminateSection(), title="Decontaminate", description="What benchmarks ask, out of what is learned."
    )
    augment: AugmentSection | None = Field(
        None, title="Augment", description="Training documents once more in other forms; empty: none."
    )
    tokenizer: TokenizerSection = Field(TokenizerSection(), title="Tokenizer", description="The BPE vocabulary.")
    tokenize: TokenizeSection = Field(TokenizeSection(), title="Tokenize", description="Token shards.")
    pretrain: PretrainSection = Field(PretrainSection(), title="Pretrain", description="The base model.")
    finetune: FinetuneSection = Field(FinetuneSection(), title="Fine-tune", description="Supervised on pairs.")
    align: AlignConfig | None = Field(
        None,
        title="Align",
        description="Learning from preferences; empty: by the settings that ship, where the sources hold preferences.",
    )
    classify: ClassifyConfig | None = Field(
        None,
        title="Classify",
        description="Telling classes of texts apart; empty: by the settings that ship, where the sources hold labels.",
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
    def collecting(self) -> CollectConfig:
        """The config of the stage collect: prompts of users are learned as the release takes them."""
        config = self.collect.collecting
        if config.feedback is None or config.feedback.prompts != "auto":
            return config
        prompts = "declarations" if self.releasing.prompt_form == "docstrings" else "as_said"
        return config.model_copy(update={"feedback": config.feedback.model_copy(update={"prompts": prompts})})

    @property
    def unlearned(self) -> BenchmarksConfig | None:
        """The config of the stage benchmarks, if there is one: where users could have said what the recipe asks."""
        if self.collect.feedback is None or not self.evaluate.tasks:
            return None
        return BenchmarksConfig(tasks=self.evaluate.tasks, seed=self.evaluate.seed)

    @property
    def filtering(self) -> FilterConfig:
        """The config of the filter; its rules are for texts, and pairs alone are no texts: these are redacted only."""
        if self.collect.document_sources:
            return self.filter
        return FilterConfig(
            preset="none",
            redact=self.filter.redact,
            redact_with=self.filter.redact_with,
            phone_regions=self.filter.phone_regions,
        )

    @property
    def judging(self) -> ModeratorConfig | None:
        """The config of the stage moderator, if there is one: with the rows that its categories learn from."""
        return self.moderate.learning(self.collect.labels) if self.moderate else None

    @property
    def moderating(self) -> ModerateConfig:
        """The config of the stage moderate, where there is one."""
        return self.moderate.judging if self.moderate else ModerateConfig()

    @property
    def unseen(self) -> ItemsConfig | None:
        """The config of the stage items, if there is one: where anything is asked that must not be learned."""
        return unseen_items(self.decontaminate, self.evaluate)

    @property
    def initial(self) -> InitialConfig | None:
        """The open model that the recipe starts from, if it names one."""
        return self.finetune.initial or self.pretrain.initial

    @property
    def importing(self) -> ImportConfig | None:
        """The config of the stage initial: the model with a context as long as the recipe asks for, or all it has."""
        if self.initial is None:
            return None
        field = "pretrain.initial" if self.pretrains else "finetune.initial"
        return self.initial.importing(field, self.pretrain.context_length, encoder=self.makes_encoder)

    @property
    def size_name(self) -> str:
        """What runs of different sizes are told apart by."""
        return self.pretrain.size if self.initial is None else "initial"

    @property
    def pretrains(self) -> bool:
        """Whether there is any pretraining."""
        return self.finetune.initial is None

    @property
    def learns_tokenizer(self) -> bool:
        """Whether a tokenizer is learned from the text; an open model and a teacher bring their own."""
        return not (self.initial or self.pretrain.other_teacher or self.finetune.other_teacher)

    @property
    def makes_encoder(self) -> bool:
        """Whether the model fills in hidden words, and cannot write."""
        return self.pretrain.hides_words

    @property
    def fills_in(self) -> bool:
        """Whether texts are learned whose middle stands last."""
        return self.augment is not None and self.augment.middle is not None

    @property
    def vocabulary(self) -> TokenizerConfig:
        """The config of the stage tokenizer: what fills in words or middles needs tokens that stand for them."""
        return TokenizerConfig(**self.tokenizer.model_dump(), masked=self.makes_encoder, fills_in=self.fills_in)

    @property
    def pretraining(self) -> PretrainConfig:
        """The config of the stage pretrain."""
        return self.pretrain.training

    @property
    def tuning(self) -> FinetuneConfig:
        """The config of the stage finetune."""
        return self.finetune.training

    @property
    def mixing(self) -> MixingConfig | None:
        """The config of the mix, if there is one: as long as pretraining."""
        mix = self.collect.mix
        if mix is None:
            return None
        tokens = self.pretrain.most_tokens if self.initial else self.pretrain.own_tokens
        return MixingConfig(**{name: getattr(mix, name) for name in MixConfig.model_fields}, training_tokens=tokens)

    @property
    def continuing(self) -> ContinueConfig:
        """The config of pretraining that goes on from a champion."""
        return self.retrain.continuing(self.pretrain, any_shape=self.pretrain.initial is not None)

    @property
    def supervised(self) -> frozenset[str]:
        """The parts of supervised data (pairs, preferences, labels) that the sources hold, as far as a look tells."""
        return foreseen_parts(self.collecting)

    @property
    def aligning(self) -> AlignConfig | None:
        """The config of the alignment, if there is one: where it is asked for, or the sources hold preferences."""
        foreseen = self.align is None and PREFERENCES in self.supervised
        return AlignConfig() if foreseen else self.align

    @property
    def classifying(self) -> ClassifyConfig | None:
        """The config of the stage classify, if there is one: where it is asked for, or the sources hold labels."""
        foreseen = self.classify is None and LABELS in self.supervised
        return ClassifyConfig() if foreseen else self.classify

    @property
    def tunes(self) -> bool:
        """Whether there is fine-tuning: preferences and labels alone are learned by stages of their own. Raises
        ConfigError where the recipe sets how, and there is none."""
        if not self.supervised or PAIRS in self.supervised or self.finetune.pairs != "collected":
            return True
        for name in ("teacher", "lora"):
            if getattr(self.finetune, name):
                held = " and ".join(sorted(self.supervised))
                instead = ", or set align.lora" if name == "lora" and PREFERENCES in self.supervised else ""
                raise ConfigError(
                    f"finetune.{name}: the sources hold {held} alone, so nothing is fine-tuned: leave it out{instead}"
                )
        return False

    @property
    def learns_answers(self) -> bool:
        """Whether there is more to learn from than texts with labels, and a model that can; raises ConfigError for an
        encoder that is to answer."""
        if self.makes_encoder:
            self._check_encoder()
            return False
        return self.tunes or self.aligning is not None

    def _check_encoder(self) -> None:
        """Raise ConfigError where the recipe asks for answers; pairs that come with texts (docstrings) are let be."""
        answered = self.collecting.model_copy(update={"docstrings": None, "synthetic": None, "feedback": None})
        found = foreseen_parts(answered)
        asked = [f"collect.conversations holds {part}" for part in (PAIRS, PREFERENCES) if part in found]
        asked += ["finetune.pairs makes pairs"] if self.finetune.pairs != "collected" else []
        asked += ["collect.feedback is set"] if self.collect.feedback else []
        asked += ["align is set"] if self.align else []
        asked += [f"finetune.{name} is set" for name in ("teacher", "lora") if getattr(self.finetune, name)]
        if asked:
            raise ConfigError(
                f"pretrain.objective=masked_words makes an encoder, which cannot write answers, and {asked[0]}: take "
                "that out (texts with labels can stay), or set pretrain.objective=next_token"
            )

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
        if self.finetune.initial and self.pretrain.initial:
            raise ValueError(
                "pretrain.initial and finetune.initial: give one of them: the first goes on pretraining a model, the "
                "second leaves pretraining out"
            )
        if self.finetune.initial and self.pretrain.teacher:
            raise ValueError("pretrain.teacher: finetune.initial leaves pretraining out; give finetune.teacher instead")
        if self.makes_encoder and self.pretrain.teacher:
            raise ValueError(
                "pretrain.teacher: soft targets are for models that write: leave it out, or set "
                "pretrain.objective=next_token"
            )
        self._check_moderation()
        self._check_augmentation()
        if self.finetune.initial and self.collect.mix:
            raise ValueError("collect.mix says what pretraining reads, and finetune.initial leaves pretraining out")
        if self.initial is None:
            try:
                self.pretrain.check_shape()
            except ConfigError as error:
                raise ValueError(f"pretrain: {error}") from None
        context, stride = self.pretrain.chosen_context_length, self.evaluate.stride
        if stride is not None and stride > context and self.initial is None:  # an open model has a context of its own
            raise ValueError(f"evaluate.stride ({stride}) is more than the model's context of {context} tokens")
        trainings = {name: getattr(self, name) for name in ("pretrain", "finetune", "align", "classify")}
        self.execution.check_nodes({name: one.processes for name, one in trainings.items() if one is not None})
        for name in self.execution.stages:
            if name not in BUILD.stage_names:
                known = ", ".join(BUILD.stage_names)
                near = did_you_mean(name, BUILD.stage_names)
                raise ValueError(f"execution.stages.{name}: unknown key{near}. Known: {known}")
        return self

    def _check_augmentation(self) -> None:
        """Raise ValueError where nothing would read changed documents."""
        if self.augment and not self.pretrains:
            raise ValueError("augment changes what pretraining reads, and finetune.initial leaves pretraining out")
        if self.fills_in and self.makes_encoder:
            raise ValueError("augment.middle is for models that write, and pretrain.objective=masked_words makes none")

    def _check_moderation(self) -> None:
        """Labels are read where a category learns from them, and only there. Raises ValueError."""
        categories = self.moderate.categories if self.moderate else ()
        learned = [position for position, one in enumerate(categories) if one.labels]
        if learned and not self.collect.labels:
            raise ValueError(f"moderate.categories.{learned[0]}.labels: collect.labels names no rows to learn from")
        if self.collect.labels and not learned:
            raise ValueError("collect.labels: no category of the section moderate has labels, so nothing reads it")


def build(recipe: Recipe, start: Start = FROM_NOTHING) -> Output:
    """Text in, tested and released model out."""
    fetched = fetch(recipe.fetching) if recipe.fetching.sources else None
    asked = read_items(recipe.unlearned) if recipe.unlearned else None
    documents = collect(recipe.collecting, fetched, asked)
    unique = deduplicate(recipe.deduplicate, documents)
    clean = filter_documents(recipe.filtering, unique, documents)
    if recipe.judging:
        clean = moderate(recipe.moderating, clean, make_moderator(recipe.judging))
    found = decontaminate(recipe.decontaminate.searching, clean, read_asked(recipe.unseen)) if recipe.unseen else None
    clean = in_place_of(found, clean) if found else clean
    initial = start.initial(recipe)
    teacher = start.teacher(recipe)
    tutor = take_tutor(recipe.finetune.other_teacher) if recipe.finetune.other_teacher else None
    tokenizer = start.tokenizer(recipe, clean, initial or teacher or tutor)
    writer = take_rewriter(recipe.augment.teacher) if recipe.augment and recipe.augment.teacher else None
    said = rewrite(recipe.augment.asking, clean, writer) if recipe.augment and recipe.augment.asking else None
    read = in_place_of(augment(recipe.augment.changing, clean, clean, said), clean) if recipe.augment else clean
    tokens = tokenize(recipe.tokenize, read, tokenizer, read if recipe.fills_in else None) if recipe.pretrains else None
    order = mix(recipe.mixing, tokens, read, read) if recipe.mixing else None
    if recipe.tokenize.comparing:
        compare_compression(recipe.tokenize.comparing, clean, tokenizer)
    base = start.base(recipe, tokens, order, initial, teacher)
    telling, aligning = recipe.classifying, recipe.aligning
    classes = classify(telling, base, tokenizer, clean) if telling else None
    if not recipe.learns_answers and (classes is not None or recipe.makes_encoder):
        return classes or base
    tuned = finetune(recipe.tuning, base, tokenizer, clean, tutor) if recipe.tunes else base
    before = tuned if aligning and recipe.tunes else None
    if aligning:
        likelihoods = reference(aligning.reference, tuned, tokenizer, clean) if aligning.compares else None
        tuned = align(aligning, tuned, tokenizer, clean, likelihoods)
    scores = evaluate(recipe.evaluate, base, tuned, tokenizer, clean, start.known(recipe, initial), found)
    start.judge(recipe, tuned, clean, found, scores)
    return make_release(recipe.releasing, tuned, tokenizer, scores, clean, before)


BUILD = Pipeline("build", build, stages_called(build))  # of any recipe: with all stages that there are


def building(recipe: Recipe) -> Pipeline:
    """The pipeline of one recipe: `fetch` is left out where nothing is remote, `items` and `decontam` where there are
    no benchmarks, `benchmarks` there and where no feedback is learned, `rewrite`, `augment`, `mix`, `compression`,
    `initial`, teachers and `align` where there is none, `finetune` where preferences alone are learned, `tokenizer`
    where a model brings it, and all of pretraining where one is fine-tuned as it is."""
    return Pipeline(BUILD.name, build, stages_called(build, recipe))
