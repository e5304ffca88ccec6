"""The release as a model of MLflow: `mlflow.pyfunc.load_model` and `mlflow.transformers.load_model` take the folder.

`MLmodel` says what MLflow's own `save_model` would: the flavors, a signature (text in, text out), and the form of
prompts as the template that `predict` puts around one. Weights and config are the release's own files. The tokenizer
MLflow reads from `components/tokenizer` alone, so that its small files stand there once more.

It has no time, id or version, as a file by MLflow would: equal inputs give equal bytes. MLflow itself is not asked.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from storage.documents import Message
from storage.files import clone_or_copy
from tasks.answer.chat_form import MARK, ChatForm
from tasks.answer.prompt_form import PromptForm

MODEL_FILE = "MLmodel"
TOKENIZER_FOLDER = "components/tokenizer"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_PLACE = "\ufdd2"  # of the prompt in a template, while its own braces are doubled
TEXT = json.dumps([{"type": "string", "required": True}])  # a column, as MLflow writes its schemas


def write_mlmodel(name: str, release: Path, form: PromptForm, chat: ChatForm) -> None:
    """Add what MLflow needs to a release folder that has its config and its tokenizer; `chat` is its chat form."""
    target = release / TOKENIZER_FOLDER
    target.mkdir(parents=True)
    for file in TOKENIZER_FILES:
        clone_or_copy(release / file, target / file)
    config, tokenizer = (json.loads((release / file).read_bytes()) for file in ("config.json", TOKENIZER_FILES[1]))
    document = {
        "flavors": {"python_function": _pyfunc(), "transformers": _transformers(name, config, tokenizer)},
        "metadata": {"prompt_template": prompt_template(form, chat)},
        "signature": {"inputs": TEXT, "outputs": TEXT, "params": None},
    }
    (release / MODEL_FILE).write_text(yaml.safe_dump(document, sort_keys=True), encoding="utf-8")


def prompt_template(form: PromptForm, chat: ChatForm) -> str:
    """What stands around a prompt, with `{prompt}` in its place; without what the tokenizer itself puts before it."""
    begin = str(chat.tokenizer.id_to_token(chat.control.start))
    text = f"{begin}{_PLACE}" if form == "plain" else chat.marked([Message("user", _PLACE)]).replace(MARK, "")
    if chat.tokenizer.encode("").ids[:1] == [chat.control.start]:
        text = text.removeprefix(begin)
    return text.replace("{", "{{").replace("}", "}}").replace(_PLACE, "{prompt}")


def _pyfunc() -> dict[str, Any]:
    return {"loader_module": "mlflow.transformers", "config": {"return_full_text": False}}  # the answer alone


def _transformers(name: str, config: dict[str, Any], tokenizer: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": "text-generation",
        "instance_type": "TextGenerationPipeline",
        "source_model_name": name,
        "pipeline_model_type": config["architectures"][0],
        "model_binary": ".",
        "torch_dtype": f"torch.{config['dtype']}",
        "components": ["tokenizer"],
        "tokenizer_type": tokenizer["tokenizer_class"],
    }
