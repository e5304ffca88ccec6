"""The pipeline: from sources of text to a released language model.

This function is the one definition of the DAG. Under the planner each line answers what would happen; under the
builder it happens; inside a Prefect flow each line is a task.
"""

from flows.pipeline import Pipeline
from flows.recipe import Recipe
from tasks.collect.stage import collect
from tasks.deduplicate import deduplicate
from tasks.engine.stage import Output
from tasks.evaluate import evaluate
from tasks.filter import filter_documents
from tasks.release import make_release
from tasks.tokenize.stage import tokenize
from tasks.tokenize.tokenizer import train_tokenizer
from tasks.train.finetune import finetune
from tasks.train.pretrain import pretrain

STAGES = (
    collect,
    deduplicate,
    filter_documents,
    train_tokenizer,
    tokenize,
    pretrain,
    finetune,
    evaluate,
    make_release,
)


def build(recipe: Recipe) -> Output:
    """Text in, tested and released model out."""
    documents = collect(recipe.collect)
    unique = deduplicate(recipe.deduplicate, documents)
    clean = filter_documents(recipe.filter, unique, documents)
    tokenizer = train_tokenizer(recipe.tokenizer, clean)
    tokens = tokenize(recipe.tokenize, clean, tokenizer)
    base = pretrain(recipe.pretrain, tokens)
    tuned = finetune(recipe.finetune, base, tokenizer, clean)
    scores = evaluate(recipe.evaluate, base, tuned, tokenizer, clean)
    return make_release(recipe.release, tuned, tokenizer, scores, clean)


BUILD = Pipeline("build", build, STAGES)
