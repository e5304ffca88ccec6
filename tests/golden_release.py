"""A small release with golden prompts and GGUF files, for tests of what serves it."""

import json
import shutil
from pathlib import Path

from tiny_model import VOCABULARY, make_text, write_model

from model.generate import load_model
from tasks.answer.chat_form import CHAT_TEMPLATE
from tasks.answer.golden import GOLDEN, GoldenFile
from tasks.answer.prompt_form import starting_ids
from tasks.answer.template_form import needed_chat_form
from tasks.release import ReleaseConfig
from tasks.release.gguf import write_gguf
from tasks.release.golden import golden_prompts
from tasks.tokenize.tokenizer import TokenizerConfig, learn, save_tokenizer

TEXTS = ["The quiet castle", "春天来了，山上的花都开了。", "น้ำใสๆ ไหลผ่านหมู่บ้าน", "हिन्दी में लिखा हुआ।", "naïve café é 🙂"]


def write_golden_release(folder: Path, *kinds: str, seed: int = 4, context_length: int = 128) -> Path:
    """A model of random weights, its tokenizer, its golden prompts, and a GGUF of each kind."""
    write_model(folder, seed=seed, context_length=context_length)
    save_tokenizer(
        learn(TokenizerConfig(vocabulary_size=VOCABULARY), [*TEXTS * 500, *map(make_text, range(9))]), folder
    )
    shutil.copyfile(CHAT_TEMPLATE, folder / CHAT_TEMPLATE.name)
    write_golden(folder)
    for kind in kinds:
        write_gguf(folder / f"tiny-{kind}.gguf", kind, ReleaseConfig(), folder)
    return folder


def write_golden(folder: Path) -> None:
    """What the model of a folder answers to TEXTS."""
    form = needed_chat_form(folder)
    prompts = [starting_ids(form, text, "chat") for text in TEXTS]
    golden = GoldenFile(prompts=golden_prompts(load_model(folder), form, prompts))
    (folder / GOLDEN).write_text(json.dumps(golden.model_dump()))
