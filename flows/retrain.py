"""The DAG of retraining: that of `flows/build.py`, from a champion: new text in, a candidate and a comparison of both.

flows/champion/retrain_run.py carries it out as a run. What did not change is reused; the tokenizer is the champion's,
frozen; both models answer the same items.
"""

from dataclasses import dataclass
from functools import partial

from flows.build import BUILD, Recipe, build
from flows.champion.champion import Champion
from flows.origin import Start
from flows.pipeline import Pipeline, stages_called
from storage.errors import ConfigError
from tasks.collect.feedback.config import FeedbackSource
from tasks.collect.feedback.records import digest_of_records
from tasks.engine.about import About
from tasks.engine.stage import Output, is_same
from tasks.evaluate.stage import evaluate
from tasks.retrain.continuing import continue_pretraining
from tasks.retrain.gate import judge, judge_first
from tasks.tune.stage import study

evaluate_champion = evaluate.named("champion")


@dataclass(frozen=True)
class FromChampion(Start):
    """From the champion's weights, or from nothing where there is none or the recipe says so; compared with it."""

    champion: Champion | None

    def initial(self, recipe: Recipe) -> Output | None:
        return None if self._goes_on_from(recipe) else super().initial(recipe)

    def teacher(self, recipe: Recipe) -> Output | None:
        """None where pretraining goes on: it learns from the text alone."""
        return None if self._goes_on_from(recipe) else super().teacher(recipe)

    def tokenizer(self, recipe: Recipe, clean: Output, brought: Output | None) -> Output:
        old = self._goes_on_from(recipe)
        return old.tokenizer if old else super().tokenizer(recipe, clean, brought)

    def base(
        self,
        recipe: Recipe,
        tokens: Output | None,
        order: Output | None,
        initial: Output | None,
        teacher: Output | None,
    ) -> Output:
        old = self._goes_on_from(recipe)
        if old is None or old.tokens is None or tokens is None:
            return super().base(recipe, tokens, order, initial, teacher)
        if is_same(tokens, old.tokens):
            return old.base
        return continue_pretraining(recipe.continuing, tokens, old.base, old.tokens, order)

    def known(self, recipe: Recipe, initial: Output | None) -> Output | None:
        """The champion's base model, where pretraining goes on from it."""
        old = self._goes_on_from(recipe)
        return super().known(recipe, initial if old is None else old.base)

    def judge(self, recipe: Recipe, tuned: Output, clean: Output, found: Output | None, scores: Output) -> None:
        old = self.champion
        if old is None:
            judge_first(recipe.retrain.gate, scores)
        elif not is_same(tuned, old.tuned):  # else the candidate is the champion
            of_champion = evaluate_champion(recipe.evaluate, old.base, old.tuned, old.tokenizer, clean, None, found)
            judge(recipe.retrain.gate, scores, of_champion)

    def _goes_on_from(self, recipe: Recipe) -> Champion | None:
        return self.champion if self.champion and goes_on_from(recipe, self.champion) else None


def goes_on_from(recipe: Recipe, champion: Champion) -> bool:
    """Whether a champion's pretraining goes on. Where the recipe leaves pretraining out, fine-tuning begins with the
    initial model each time, on all pairs; and so it is with a champion that was never pretrained here."""
    return champion.tokens is not None and recipe.pretrains and recipe.retrain.start == "champion"


def learning_from_users(recipe: Recipe) -> Recipe:
    """The recipe with the section collect.feedback where it has none, users have said something, and it does not say
    that nothing is learned from them."""
    if recipe.collect.feedback is not None or not recipe.retrain.feedback or recipe.makes_encoder:
        return recipe
    if not digest_of_records():
        return recipe
    return recipe.model_copy(update={"collect": recipe.collect.model_copy(update={"feedback": FeedbackSource()})})


def about(stage: str) -> About:
    """What a stage of a build, a retraining or a search says about itself, by the name that it is called by."""
    known = (*BUILD.stages, evaluate_champion, judge, study)
    return next((one.about for one in known if one.name == stage), About())


def retraining(recipe: Recipe, champion: Champion | None) -> Pipeline:
    """The pipeline for the champion of the moment, with the stages that it may come to; raises ConfigError for an
    encoder, which is never released and so is no champion's rival."""
    if recipe.makes_encoder:
        raise ConfigError(
            "retrain: pretrain.objective=masked_words makes an encoder, and only models that write are compared with a "
            "champion: use `llmill run` for it"
        )
    follow = partial(build, start=FromChampion(champion))
    return Pipeline("retrain", follow, stages_called(follow, recipe))
