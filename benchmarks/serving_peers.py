"""Engines of others as benchmarks/serving_speed.py asks them: each takes prompts of ids and answers them all.

All of them have one thread, take the likeliest token, and make NEW_TOKENS for each prompt.
"""

import sys
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from model.shape import Shape

NEW_TOKENS = 128
Answer = Callable[[list[list[int]]], None]


def transformers_engine(folder: Path) -> Answer:
    """`generate` on the same weights: all requests begin and end together."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)

    def answer(prompts: list[list[int]]) -> None:
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=NEW_TOKENS,
                max_new_tokens=NEW_TOKENS,
                pad_token_id=0,
            )

    return answer


def nanochat_engine(checkout: Path, shape: Shape) -> Answer:
    """nanochat's engine on a model of its own shape with the same depth, width and vocabulary (it has two tables of
    tokens and more of them in its layers, of which a step reads rows alone).

    It takes several samples of one prompt, no several prompts: the first prompt stands for all, and is read once.
    """
    if not (checkout / "nanochat" / "engine.py").is_file():
        sys.exit(f"{checkout}: no checkout of nanochat: it has no nanochat/engine.py")
    sys.path.insert(0, str(checkout))
    tokenizer_module: Any = types.ModuleType("nanochat.tokenizer")
    tokenizer_module.get_tokenizer = None  # its own is not needed, nor the packages that it imports
    sys.modules["nanochat.tokenizer"] = tokenizer_module
    from nanochat.engine import Engine
    from nanochat.gpt import GPT, GPTConfig

    config = GPTConfig(
        sequence_len=shape.context_length,
        vocab_size=shape.vocabulary_size,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_kv_head=shape.key_value_heads,
        n_embd=shape.width,
        window_pattern="L",
    )
    torch.manual_seed(0)
    model = GPT(config).eval()
    model.init_weights()
    no_token = types.SimpleNamespace(encode_special=lambda _: -1, get_bos_token_id=lambda: -1)
    engine = Engine(model, no_token)

    def answer(prompts: list[list[int]]) -> None:
        made = sum(1 for _ in engine.generate(prompts[0], len(prompts), NEW_TOKENS, temperature=0.0))
        assert made == NEW_TOKENS

    return answer


def llama_cpp_engine(folder: Path, kind: str, shape: Shape, rows: int) -> Answer:
    """llama.cpp's server in this process (the wheel `xllamacpp`), asked by a thread a request."""
    server = llama_cpp_server(folder, kind, shape, rows)
    threads = ThreadPoolExecutor(rows)

    def ask(prompt: list[int]) -> None:
        body = {"prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        assert server.handle_completions(body)["usage"]["completion_tokens"] == NEW_TOKENS

    def answer(prompts: list[list[int]]) -> None:
        list(threads.map(ask, prompts))

    return answer


def llama_cpp_server(folder: Path, kind: str, shape: Shape, rows: int) -> Any:
    """The weights of a folder as GGUF, under a small vocabulary filled up to the model's, for `rows` requests
    at once. ImportError where llama.cpp is not installed."""
    import xllamacpp

    from tasks.answer.chat_form import CHAT_TEMPLATE
    from tasks.release.config import ReleaseConfig
    from tasks.release.gguf import write_gguf
    from tasks.tokenize.tokenizer import TokenizerConfig, learn, save_tokenizer

    save_tokenizer(learn(TokenizerConfig(vocabulary_size=270), ["the river and the castle"] * 9), folder)
    (folder / CHAT_TEMPLATE.name).write_bytes(CHAT_TEMPLATE.read_bytes())
    write_gguf(folder / f"{kind}.gguf", kind, ReleaseConfig(), folder)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(folder / f"{kind}.gguf")
    parameters.n_ctx, parameters.n_parallel, parameters.verbosity = rows * shape.context_length, rows, -1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(parameters)
