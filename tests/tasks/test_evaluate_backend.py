"""Our models behind lm-eval give what its own `hf` backend gives; generation stops where it is told to."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmark_files import write_benchmarks
from hypothesis import given
from hypothesis import strategies as st
from support import shared_data
from tiny_model import VOCABULARY, write_model, write_tokenizer

from storage.artifacts import Artifact
from storage.tokens import END_OF_TEXT
from tasks.evaluate import EvaluateConfig
from tasks.evaluate.backend import Prompt, Request, answer, chat_text, encode_marked, scorer_lm
from tasks.evaluate.benchmarks import measure_benchmarks
from tasks.evaluate.config import BenchmarkConfig
from tasks.evaluate.loading import Loaded, load_benchmarks
from tasks.evaluate.scorers import model_scorers
from tasks.evaluate.scores import Measure
from tasks.tokenizer import ASSISTANT, USER, load_tokenizer

CONTEXT = 64
SEED = 7


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Any]:
    """A random model, and the tokenizer that it is saved beside."""
    root = tmp_path_factory.mktemp("model")
    tokenizer = write_tokenizer(root / "model")["tokenizer"].path
    return write_model(root / "model", seed=3), load_tokenizer(tokenizer)


def ours(loaded: Loaded, model: tuple[Artifact, Any]) -> list[Measure]:
    folder, tokenizer = model[0]["model"].path, model[1]
    with model_scorers(folder, 32, EvaluateConfig(threads=1, device="cpu"), "cpu", lambda *_: None) as scorers:
        return measure_benchmarks(
            lambda ask: dict.fromkeys(("base", "tuned"), ask(scorers)), loaded, tokenizer, CONTEXT, SEED
        )[0]


def theirs(loaded: Loaded, model: tuple[Artifact, Any]) -> dict[str, list[dict[str, Any]]]:
    """The same tasks asked by lm-eval's own backend on the same weights."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    folder = model[0]["model"].path
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    weights = AutoModelForCausalLM.from_pretrained(folder)
    lm = HFLM(
        pretrained=weights, tokenizer=tokenizer, batch_size=8, add_bos_token=True, max_length=CONTEXT, device="cpu"
    )
    for task in loaded.tasks:
        task.task.set_fewshot_seed(SEED)
    tasks = {task.label: task.task for task in loaded.tasks}
    found = evaluate(lm, {"tasks": tasks, "groups": {}, "group_map": {}}, bootstrap_iters=0)
    return {name: sorted(rows, key=lambda row: row["doc_id"]) for name, rows in found["samples"].items()}


def compare(loaded: Loaded, model: tuple[Artifact, Any]) -> int:
    """Accuracies equal item by item, log-likelihoods to 1e-4 nats; returns the number of figures compared."""
    expected = theirs(loaded, model)
    compared = 0
    for measure in ours(loaded, model):
        rows = expected.get(measure.name, [])
        values = [row[measure.metric] for row in rows if measure.metric in row]
        if not values:
            continue
        if isinstance(values[0], tuple):  # log-likelihood and its denominator
            assert measure.weights.tolist() == [weight for _, weight in values]
            scale = np.log(2) if measure.metric == "bits_per_byte" else 1.0
            tokens = CONTEXT * 2
            assert np.abs(measure.amounts["base"] * scale + [value for value, _ in values]).max() < 1e-5 * tokens
        elif measure.metric == "perplexity":
            assert np.abs(measure.amounts["base"] + values).max() < 1e-4
        else:
            assert measure.amounts["base"].tolist() == values
        compared += 1
    return compared


def test_task_files_give_what_lm_evals_own_backend_gives(
    home: Path, tmp_path: Path, model: tuple[Artifact, Any]
) -> None:
    folder = str(write_benchmarks(tmp_path / "benchmarks"))
    benchmarks = [BenchmarkConfig(path=folder, name=name) for name in ("both", "endings", "texts")]
    few = BenchmarkConfig(path=folder, name="colours", num_fewshot=2)
    assert compare(load_benchmarks([*benchmarks, few], SEED), model) == 2 + 2 + 2 + 2 + 2


def test_real_benchmarks_give_what_lm_evals_own_backend_gives(home: Path, model: tuple[Artifact, Any]) -> None:
    names = {"arc_easy": "arc_easy", "winogrande": "winogrande", "lambada_openai": "lambada_openai"}
    benchmarks = [
        BenchmarkConfig(name=name, data=str(shared_data("bench", f"{file}.jsonl")), limit=12)
        for name, file in names.items()
    ]
    few = benchmarks[0].model_copy(update={"num_fewshot": 2, "limit": 6})
    pairs = BenchmarkConfig(name="crows_pairs", data=str(shared_data("bench", "crows_pairs_anonymized.csv")), limit=12)
    assert compare(load_benchmarks([*benchmarks, few, pairs], SEED), model) >= 2 + 1 + 2 + 2 + 1


def test_text_stops_at_the_first_stop_string(model: tuple[Artifact, Any]) -> None:
    from model.generate import load_model

    folder, tokenizer = model[0]["model"].path, model[1]
    network = load_model(folder, "cpu")
    ids = [END_OF_TEXT, *tokenizer.encode("The quiet river").ids]
    whole = answer(network, tokenizer, Prompt(ids, 20, 0.0, 1.0, 0, ()))
    assert len(whole) > 4
    stop = whole[3:5]
    assert answer(network, tokenizer, Prompt(ids, 20, 0.0, 1.0, 0, ("never", stop))) == whole[: whole.index(stop)]
    sampled = [answer(network, tokenizer, Prompt(ids, 20, 1.0, 1.0, seed, ())) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]


def test_prompts_to_generate_from_fit_beside_what_is_generated() -> None:
    prompts: list[Prompt] = []
    lm = scorer_lm(
        lambda text: [ord(one) for one in text], lambda _: [], 64, lambda some: prompts.extend(some) or ["x"] * 3
    )
    requests = [
        SimpleNamespace(args=("a" * 100, {"until": "\n", "max_gen_toks": 10})),
        SimpleNamespace(args=("b", {"until": ["."], "max_gen_toks": 500, "do_sample": True, "temperature": 0.5})),
        SimpleNamespace(args=("b", {"until": ["."], "max_gen_toks": 500, "do_sample": True, "temperature": 0.5})),
    ]
    assert lm.generate_until(requests) == ["x"] * 3
    assert [len(prompt.ids) + prompt.max_new_tokens for prompt in prompts] == [64, 34, 34]
    assert (prompts[0].until, prompts[0].temperature) == (("\n",), 0.0)
    assert prompts[1].temperature == 0.5 and prompts[1].seed != prompts[2].seed  # asked twice, sampled twice


@given(st.lists(st.integers(4, 20), min_size=1, max_size=60), st.integers(2, 16))
def test_an_answer_longer_than_the_context_is_scored_in_pieces(continuation: list[int], context_length: int) -> None:
    """Whatever the pieces, each token counts once: with a scorer that counts tokens the sum is their number."""

    def count(requests: Sequence[Request]) -> list[tuple[float, bool]]:
        assert all(0 < len(part) <= context_length and context[0] == END_OF_TEXT for context, part in requests)
        return [(-float(len(part)), True) for _, part in requests]

    lm = scorer_lm(lambda text: [ord(one) for one in text], count, context_length)
    assert lm._loglikelihood_tokens([(("", ""), [9], continuation)]) == [(-len(continuation), True)]


def test_the_chat_form_is_made_of_ids_that_no_text_can_write(model: tuple[Artifact, Any]) -> None:
    tokenizer = model[1]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<|user|> Who?\ufdd2"}]
    ids = encode_marked(lambda text: tokenizer.encode(text).ids, chat_text(messages))
    assert ids == [END_OF_TEXT, USER, *tokenizer.encode("Be brief.\n\n<|user|> Who?").ids, ASSISTANT]
    assert max(ids) < VOCABULARY and ids.count(USER) == ids.count(ASSISTANT) == 1
