"""Small open models as others publish them: random weights, a tokenizer and a chat template of their own."""

import json
from pathlib import Path
from typing import Any

import torch
from tiny_model import make_text
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from model.lora import LowRank, adapt, save_adapter, trained
from model.shape import FamilyName, Shape
from model.transformer import Transformer, initialise, load_model, save_model

LLAMA_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
LLAMA_TEMPLATE = (
    "{{- bos_token }}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim"
    " + '<|eot_id|>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
    "{%- endif %}\n"
)
QWEN_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|{{ message.role }}|>{{ message.content }}{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ZEPHYR_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
VOCABULARY = 360


def write_llama(folder: Path, **changed: Any) -> Path:
    """A Llama with Llama 3's kind of tokenizer and template: begins with its own mark, ends turns with another."""
    settings = {"bos_token": LLAMA_TOKENS[0], "eos_token": LLAMA_TOKENS[1], "model_max_length": 128}
    write_tokenizer(folder, LLAMA_TOKENS, settings, begin=LLAMA_TOKENS[0])
    (folder / "chat_template.jinja").write_text(LLAMA_TEMPLATE)
    return write_weights(folder, "llama", **changed)


def write_llama_2(folder: Path, **changed: Any) -> Path:
    """A Llama with Llama 2's kind of tokenizer, which was one of SentencePiece: words begin with a mark in place of the
    space, and what the vocabulary lacks is said by bytes. Its chat form is TinyLlama's."""
    folder.mkdir(parents=True, exist_ok=True)
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    learned.train_from_iterator(
        [make_text(number) for number in range(40)], trainers.BpeTrainer(vocab_size=200, show_progress=False)
    )
    known = learned.get_vocab()
    pieces = sorted(known, key=lambda piece: known[piece])
    control = ["<unk>", "<s>", "</s>"]
    made = [piece for piece in pieces if len(piece) > 1] + [piece for piece in pieces if len(piece) == 1]
    every = [*control, *(f"<0x{byte:02X}>" for byte in range(256)), *made]
    vocabulary = {piece: number for number, piece in enumerate(every)}
    halves = ((piece[:cut], piece[cut:]) for piece in made for cut in range(1, len(piece)))
    merges = [pair for pair in halves if set(pair) <= set(made)]  # in order of what they make, as transformers has them
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(back)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    settings |= {"pad_token": "</s>", "legacy": True, "clean_up_tokenization_spaces": False, "model_max_length": 128}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": ZEPHYR_TEMPLATE}))
    return write_weights(folder, "llama", **changed)


def write_gpt2(folder: Path, **changed: Any) -> Path:
    """A GPT-2: one control token, no chat template, no row of weights to spare."""
    mark = "<|endoftext|>"
    settings = {"bos_token": mark, "eos_token": mark, "unk_token": mark}
    write_tokenizer(folder, [], settings, last=mark)
    return write_weights(folder, "gpt2", **changed)


def write_qwen(folder: Path, template: str | None = QWEN_TEMPLATE, **changed: Any) -> Path:
    """A Qwen3: no mark begins a text, its template stands among the settings, its weights have rows to spare."""
    settings = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": template}
    write_tokenizer(folder, QWEN_TOKENS, {name: value for name, value in settings.items() if value or name[0] == "b"})
    return write_weights(folder, "qwen3", bos_token_id=VOCABULARY, **({"vocabulary_size": VOCABULARY + 16} | changed))


def write_eurobert(folder: Path, **changed: Any) -> Path:
    """An encoder: begins with its own mark, and has one that stands where a word is hidden."""
    begin, end, mask = marks = ["<|begin_of_text|>", "<|end_of_text|>", "<|mask|>"]
    settings = {"bos_token": begin, "eos_token": end, "pad_token": end, "mask_token": mask}
    write_tokenizer(folder, marks, settings, begin=begin)
    return write_weights(folder, "eurobert", mask_token=VOCABULARY + 2, **changed)


def write_weights(folder: Path, family: FamilyName, bos_token_id: int | None = None, **changed: Any) -> Path:
    """Random weights that are not zero anywhere, and their config."""
    sizes: dict[str, Any] = {"layers": 2, "width": 64, "heads": 4, "head_dim": 16, "feed_forward": 96}
    sizes |= {"vocabulary_size": vocabulary_of(folder), "context_length": 128}
    sizes |= {"key_value_heads": 4 if family == "gpt2" else 2, "norm_epsilon": 1e-5} | changed
    model = Transformer(Shape(**sizes, family=family))
    initialise(model, seed=3)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                torch.nn.init.normal_(parameter, std=0.05)
    save_model(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"bos_token_id": bos_token_id or 1, "eos_token_id": 2}  # what libraries state by themselves
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def vocabulary_of(folder: Path) -> int:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()


def write_tokenizer(
    folder: Path, special: list[str], settings: dict[str, Any], begin: str = "", last: str = ""
) -> None:
    """A byte-level BPE of VOCABULARY tokens with `special` ones behind them (`last`: among them); `begin` is put
    before each text."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(LLAMA_3_SPLIT), behavior="isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    size = VOCABULARY - bool(last)
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([make_text(number) for number in range(40)], trainer)
    assert tokenizer.get_vocab_size() == size
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special or [last]])
    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    whole = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(whole))


LOW_RANK = LowRank(3, 6.0)


def write_adapter(folder: Path, base: Path, settings: LowRank = LOW_RANK, trained_on: Path | None = None) -> Path:
    """An adapter of large random numbers for the model of a folder, which says that it is of the weights
    `trained_on`, of that folder where no other is given."""
    model = load_model(base)
    adapt(model, settings, seed=1)
    with torch.no_grad():
        for number, parameter in enumerate(trained(model).values()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.1)
    save_adapter(model, settings, trained_on or base, folder)
    return folder
