"""The DAG of retraining: new text in, a candidate that goes on from the champion, and a comparison of both.

Like `flows/build.py` this is the one definition; flows/champion/retrain_run.py carries it out as a run. What did not
change is reused; the tokenizer is the champion's, frozen; both models answer the same items.
"""

from flows.build import Recipe
from flows.champion.champion import Champion
from flows.pipeline import Pipeline, stages_called
from tasks.collect.stage import collect
from tasks.deduplicate.stage import deduplicate
from tasks.engine.stage import Output, is_same
from tasks.evaluate.stage import evaluate
from tasks.filter.stage import filter_documents
from tasks.release.stage import make_release
from tasks.retrain.continuing import continue_pretraining
from tasks.retrain.gate import judge, judge_first
from tasks.tokenize.stage import tokenize
from tasks.tokenize.tokenizer import train_tokenizer
from tasks.train.finetune import finetune
from tasks.train.pretrain import pretrain

evaluate_champion = evaluate.named("champion")


def retrain(recipe: Recipe, champion: Champion | None) -> Output:
    """A candidate from the champion's weights, or from scratch where there is none or the recipe says so."""
    documents = collect(recipe.collect)
    unique = deduplicate(recipe.deduplicate, documents)
    clean = filter_documents(recipe.filter, unique, documents)
    if champion is None or recipe.retrain.start == "scratch":
        tokenizer = train_tokenizer(recipe.tokenizer, clean)
        tokens = tokenize(recipe.tokenize, clean, tokenizer)
        base = pretrain(recipe.pretrain, tokens)
    else:
        tokenizer, base = champion.tokenizer, champion.base
        tokens = tokenize(recipe.tokenize, clean, tokenizer)
        if not is_same(tokens, champion.tokens):
            base = continue_pretraining(recipe.continuing, tokens, base, champion.tokens)
    tuned = finetune(recipe.finetune, base, tokenizer, clean)
    scores = evaluate(recipe.evaluate, base, tuned, tokenizer, clean)
    if champion is None:
        judge_first(recipe.retrain.gate, scores)
    elif not is_same(tuned, champion.tuned):  # else the candidate is the champion
        known = champion.base, champion.tuned, champion.tokenizer
        judge(recipe.retrain.gate, scores, evaluate_champion(recipe.evaluate, *known, clean))
    return make_release(recipe.releasing, tuned, tokenizer, scores, clean)


def retraining(recipe: Recipe, champion: Champion | None) -> Pipeline:
    """The pipeline for the champion of the moment, with the stages that it may come to."""
    given = {"tokenizer": champion.tokenizer} if champion is not None and recipe.retrain.start == "champion" else {}

    def follow(recipe: Recipe) -> Output:
        return retrain(recipe, champion)

    return Pipeline("retrain", follow, stages_called(follow, recipe), given=given)
