"""Our models behind lm-eval give what its own `hf` backend gives; generation stops where it should."""

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

from storage.store.artifacts import Artifact
from storage.tokens import END_OF_TEXT
from tasks.answer.batch import answers
from tasks.answer.chat_form import OwnForm
from tasks.evaluate.config import BenchmarkConfig, EvaluateConfig
from tasks.evaluate.lm_eval.backend import Prompt, Request, asked_of, chat_text, scorer_lm
from tasks.evaluate.lm_eval.benchmarks import measure_benchmarks
from tasks.evaluate.lm_eval.loading import Loaded, load_benchmarks
from tasks.evaluate.scorers.scorers import model_scorers
from tasks.evaluate.statistics.scores import Measure
from tasks.tokenize.tokenizer import ASSISTANT, USER, load_tokenizer

CONTEXT = 64
SEED = 7


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A random model with the tokenizer beside it."""
    folder = tmp_path_factory.mktemp("model") / "model"
    write_tokenizer(folder)
    return write_model(folder, seed=3)


def ours(loaded: Loaded, model: Artifact, context: int) -> list[Measure]:
    tokenizer = load_tokenizer(model["model"].path)
    config = EvaluateConfig(threads=1, device="cpu")
    with model_scorers(model["model"].path, context // 2, config, "cpu", lambda *_: None) as scorers:
        measures, _ = measure_benchmarks(
            lambda ask: dict.fromkeys(("base", "tuned"), ask(scorers)), loaded, OwnForm(tokenizer), context, SEED
        )
    return measures


def theirs(loaded: Loaded, model: Artifact, context: int, rolling: bool) -> dict[str, list[dict[str, Any]]]:
    """The same tasks asked by lm-eval's own backend on the same weights. A mark stands before each text as here; a
    rolling text has it from lm-eval."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(model["model"].path)
    mark = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{mark} $A", special_tokens=[(mark, END_OF_TEXT)]
    )
    weights = AutoModelForCausalLM.from_pretrained(model["model"].path)
    lm = HFLM(
        pretrained=weights,
        tokenizer=tokenizer,
        batch_size=8,
        add_bos_token=not rolling,
        max_length=context,
        device="cpu",
    )
    tasks = {
        task.label: task.task for task in loaded.tasks if (task.task.OUTPUT_TYPE == "loglikelihood_rolling") == rolling
    }
    for task in tasks.values():
        task.set_fewshot_seed(SEED)
    found = (
        evaluate(lm, {"tasks": tasks, "groups": {}, "group_map": {}}, bootstrap_iters=0) if tasks else {"samples": {}}
    )
    return {name: sorted(rows, key=lambda row: row["doc_id"]) for name, rows in found["samples"].items()}


def compare(loaded: Loaded, model: Artifact, context: int) -> int:
    """Accuracies equal item by item, log-likelihoods to 1e-4 nats, rolling ones to 1e-5 a token; returns how many
    figures were compared."""
    expected = theirs(loaded, model, context, False) | theirs(loaded, model, context, True)
    compared = 0
    for measure in ours(loaded, model, context):
        rows = expected.get(measure.name, [])
        values = [row[measure.metric] for row in rows if measure.metric in row]
        if not values:
            continue
        amounts = measure.amounts["base"]
        if isinstance(values[0], tuple):  # log-likelihood and its denominator
            assert measure.weights.tolist() == [weight for _, weight in values]
            nats = amounts * (np.log(2) if measure.metric == "bits_per_byte" else 1)
            assert np.abs(nats + [value for value, _ in values]).max() < 1e-5 * 2 * context
        elif measure.metric == "perplexity":
            assert np.abs(amounts + values).max() < 1e-4
        elif measure.metric == "likelihood_diff":
            assert np.abs(amounts - values).max() < 2e-4
        else:
            assert amounts.tolist() == values
        compared += 1
    return compared


def test_task_files_give_what_lm_evals_own_backend_gives(home: Path, tmp_path: Path, model: Artifact) -> None:
    folder = str(write_benchmarks(tmp_path / "benchmarks"))
    benchmarks = [BenchmarkConfig(path=folder, name=name) for name in ("both", "endings", "texts")]
    few = BenchmarkConfig(path=folder, name="colours", num_fewshot=1)
    assert compare(load_benchmarks([*benchmarks, few], SEED), model, CONTEXT) == 2 + 2 + 2 + 2 + 2


def test_real_benchmarks_give_what_lm_evals_own_backend_gives(home: Path, tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "model")
    model = write_model(tmp_path / "model", seed=4, context_length=1024)
    benchmarks = [
        BenchmarkConfig(name=name, data=str(shared_data("bench", f"{name}.jsonl")), limit=10)
        for name in ("arc_easy", "winogrande", "lambada_openai")
    ]
    few = benchmarks[0].model_copy(update={"num_fewshot": 2, "limit": 5})
    pairs = BenchmarkConfig(name="crows_pairs", data=str(shared_data("bench", "crows_pairs_anonymized.csv")), limit=10)
    assert compare(load_benchmarks([*benchmarks, few, pairs], SEED), model, 1024) == 2 + 1 + 2 + 2 + 2


def answer(network: Any, form: OwnForm, prompt: Prompt) -> str:
    (text,) = answers(network, form.tokenizer, asked_of([prompt]), form.control.ends)
    return text


def test_text_stops_at_the_first_stop_string(model: Artifact) -> None:
    from model.generate import load_model

    tokenizer = load_tokenizer(model["model"].path)
    network = load_model(model["model"].path, "cpu")
    ids = [END_OF_TEXT, *tokenizer.encode("The quiet river").ids]
    whole = answer(network, OwnForm(tokenizer), Prompt(ids, 20, 0.0, 1.0, 0, ()))
    assert len(whole) > 4
    stop = whole[3:5]
    assert (
        answer(network, OwnForm(tokenizer), Prompt(ids, 20, 0.0, 1.0, 0, ("never", stop))) == whole[: whole.index(stop)]
    )
    sampled = [answer(network, OwnForm(tokenizer), Prompt(ids, 20, 1.0, 1.0, seed, ())) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]


def test_prompts_to_generate_from_fit_beside_what_is_generated() -> None:
    prompts: list[Prompt] = []

    def generate(some: Sequence[Prompt]) -> list[str]:
        prompts.extend(some)
        return ["x"] * len(some)

    lm = scorer_lm(lambda text: [ord(one) for one in text], lambda _: [], 64, generate)
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


def test_the_chat_form_is_made_of_ids_that_no_text_can_write(model: Artifact) -> None:
    tokenizer = load_tokenizer(model["model"].path)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<|user|> Who?\ufdd0"}]
    form = OwnForm(tokenizer)
    ids = form.marked_ids(chat_text(form, messages))
    assert ids == [END_OF_TEXT, USER, *tokenizer.encode("Be brief.\n\n<|user|> Who?").ids, ASSISTANT]
    assert max(ids) < VOCABULARY and ids.count(USER) == ids.count(ASSISTANT) == 1
