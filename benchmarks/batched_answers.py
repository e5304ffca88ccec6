"""What generative benchmarks gain by batches: CPU seconds for the same answers, one after another and together.

    python -m benchmarks.batched_answers [--questions FILE] [--prompts N]

Prompts have the form of gsm8k: a solved question and an open one, as many tokens as words have here; FILE has a JSON
object a line with `question` and `answer`. One thread; both ways take turns, and the middle of the rounds counts.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from benchmarks.scorer_speed import random_model
from benchmarks.serving_speed import SHAPE
from model.decoding import lay_out_for_decoding
from model.generate import generate
from tasks.answer.batch import Asked, answers
from tasks.answer.stream import Sampling
from tasks.tokenize.tokenizer import TokenizerConfig, learn, token_ids

NEW_TOKENS, ROUNDS = 64, 3
SUMS = [{"question": f"What is {n} and {n + 1}?", "answer": f"It is {2 * n + 1}.\n#### {2 * n + 1}"} for n in range(99)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=Path, metavar="FILE", help="questions and answers as JSON lines")
    parser.add_argument("--prompts", type=int, default=64, help="prompts that are answered (default: 64)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = options.questions.read_text().splitlines()[: options.prompts + 1] if options.questions else []
    rows = [json.loads(line) for line in lines] or SUMS[: options.prompts + 1]
    texts = [f"Question: {row['question']}\nAnswer: {row['answer']}" for row in rows]
    tokenizer = learn(TokenizerConfig(vocabulary_size=300), texts * 20)
    prompts = [f"{texts[0]}\n\nQuestion: {row['question']}\nAnswer:" for row in rows[1:]]
    room = SHAPE.context_length - NEW_TOKENS
    asked = [Asked([0, *token_ids(tokenizer, prompt)][-room:], Sampling(NEW_TOKENS)) for prompt in prompts]
    model = random_model(SHAPE)
    lay_out_for_decoding(model)
    times: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(ROUNDS):
        started = time.process_time()
        alone = [
            tokenizer.decode(list(generate(model, one.ids, NEW_TOKENS)), skip_special_tokens=True) for one in asked
        ]
        times["alone"].append(time.process_time() - started)
        started = time.process_time()
        together = answers(model, tokenizer, asked, ())
        times["together"].append(time.process_time() - started)
    equal = sum(one == other for one, other in zip(alone, together, strict=True))
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(f"{len(asked)} prompts of {statistics.mean(len(one.ids) for one in asked):.0f} tokens, {equal} answers equal")
    one, all_of_them = middle["alone"], middle["together"]
    print(f"alone {one:.1f} s, together {all_of_them:.1f} s: {one / all_of_them:.1f}x")


if __name__ == "__main__":
    main()
