"""Where a model starts, and what it is compared with: what the DAG of a build (flows/build.py) leaves open."""

from typing import TYPE_CHECKING

from tasks.engine.stage import Output
from tasks.initial.stage import take_over
from tasks.initial.teacher import take_teacher
from tasks.tokenize.tokenizer import train_tokenizer
from tasks.train.pretrain import pretrain

if TYPE_CHECKING:
    from flows.build import Recipe


class Start:
    """Where a model starts, and what it is compared with: from nothing, with nothing. Retraining has a `Start` of its
    own (flows/retrain.py)."""

    def initial(self, recipe: "Recipe") -> Output | None:
        """The open model that the recipe names, if it does."""
        return take_over(recipe.importing) if recipe.importing else None

    def teacher(self, recipe: "Recipe") -> Output | None:
        """The model that pretraining learns from, where the recipe names one."""
        return take_teacher(recipe.pretrain.other_teacher) if recipe.pretrain.other_teacher else None

    def tokenizer(self, recipe: "Recipe", clean: Output, brought: Output | None) -> Output:
        """A tokenizer learned from the text, or the one that an initial model or a teacher has brought."""
        return train_tokenizer(recipe.vocabulary, clean) if recipe.learns_tokenizer or brought is None else brought

    def base(
        self,
        recipe: "Recipe",
        tokens: Output | None,
        order: Output | None,
        initial: Output | None,
        teacher: Output | None,
    ) -> Output:
        """A base model from random weights or from the initial ones; without pretraining the initial model itself."""
        if initial is not None and not recipe.pretrains:
            return initial
        assert tokens is not None  # of a recipe that pretrains
        return pretrain(recipe.pretraining, tokens, order, initial, teacher)

    def known(self, recipe: "Recipe", initial: Output | None) -> Output | None:
        """The model whose text the others may forget, where that is measured and it is not the base model itself."""
        return initial if recipe.evaluate.known_text and recipe.pretrains else None

    def judge(self, recipe: "Recipe", tuned: Output, clean: Output, found: Output | None, scores: Output) -> None:
        """No verdict: a build is not compared."""


FROM_NOTHING = Start()
