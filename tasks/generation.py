"""Text from a release, piece by piece: what `llmill generate` prints.

A prompt is put into the form that fine-tuning taught, unless it is asked for raw: a Python signature with its names
split into words, and the chat form around it. Pieces are whole
characters: a token may end inside one, which is held back until the rest of it comes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import DataError
from storage.files import is_utf8
from tasks.tokenizer import END, END_OF_TEXT

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.transformer import Transformer


def generate_text(
    release: Path,
    prompt: str,
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    raw: bool = False,
    device: str = "cpu",
) -> Iterator[str]:
    """Yield the answer to `prompt` as it is made; joined, the pieces are the decoded answer.

    `release` is any folder with `model.safetensors`, `config.json` and `tokenizer.json`. Temperature 0 is greedy.
    """
    if not is_utf8(prompt):
        raise DataError("the prompt is not UTF-8: check the encoding of the terminal or of what calls llmill")
    from model.generate import load_model
    from tasks.collect.signatures import prompt_from_signature
    from tasks.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(release)
    model = load_model(release, device)
    ids = starting_ids(tokenizer, prompt if raw else prompt_from_signature(prompt), raw=raw)
    yield from stream_text(
        model, tokenizer, ids, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
    )


def starting_ids(tokenizer: "Tokenizer", prompt: str, *, raw: bool) -> list[int]:
    """The ids that a model goes on from: the chat form up to the answer, or the beginning of a text."""
    from tasks.chat import prompt_ids

    return [END_OF_TEXT, *tokenizer.encode(prompt).ids] if raw else prompt_ids(tokenizer, prompt)


def stream_text(
    model: "Transformer",
    tokenizer: "Tokenizer",
    ids: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> Iterator[str]:
    """Yield what follows `ids` as text, up to `<|end|>` or `<|endoftext|>`."""
    from tokenizers.decoders import DecodeStream

    from model.generate import generate

    stop_ids = (END_OF_TEXT, END)
    stream = DecodeStream(skip_special_tokens=True)
    made: list[int] = []
    written = 0
    for token in generate(model, ids, max_new_tokens, temperature, top_p, seed, stop_ids):
        made.append(token)
        piece = stream.step(tokenizer, token)
        if piece:
            written += len(piece)
            yield piece
    rest = tokenizer.decode(made, skip_special_tokens=True)[written:]
    if rest:  # the answer ended inside a character
        yield rest
