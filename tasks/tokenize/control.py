"""The control tokens of a tokenizer, as ids: what begins a text, what ends an answer, what fills up a batch.

A tokenizer that is trained here has its own (`SPECIAL_TOKENS`). An open model says them in the files beside its
`tokenizer.json`: by name in `tokenizer_config.json`, by id in `generation_config.json` and `config.json`. An id counts
only where the tokenizer knows it as a control token: many a `config.json` states the default of its library.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import DataError
from tasks.tokenize.tokenizer import END, END_OF_TEXT, SPECIAL_TOKENS, load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION_CONFIG = "generation_config.json"
MODEL_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class ControlTokens:
    """Ids: `start` stands before each document and each plain prompt, any of `ends` ends an answer, `pad` says nothing.

    `start` is among the ends: where the next document would begin, the text is over.
    """

    start: int
    ends: tuple[int, ...]
    pad: int

    @property
    def settings(self) -> dict[str, Any]:
        """As transformers' configs state them."""
        return {"bos_token_id": self.start, "eos_token_id": list(self.ends), "pad_token_id": self.pad}


OWN = ControlTokens(END_OF_TEXT, (END, END_OF_TEXT), END_OF_TEXT)


def is_own(tokenizer: "Tokenizer") -> bool:
    """Whether it has the control tokens of the tokenizers that are trained here, at their ids."""
    return [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))


def read_control(folder: Path) -> ControlTokens:
    """The control tokens of a folder with a `tokenizer.json`; DataError where nothing says which they are."""
    tokenizer = load_tokenizer(folder)
    if is_own(tokenizer):
        return OWN
    known = special_tokens(tokenizer)
    named, by_id, others = (read_object(folder / name) for name in (TOKENIZER_CONFIG, GENERATION_CONFIG, MODEL_CONFIG))

    def ids_of(role: str) -> list[int]:
        stated = (*_listed(by_id.get(f"{role}_token_id")), *_listed(others.get(f"{role}_token_id")))
        own = tokenizer.token_to_id(token_text(named.get(f"{role}_token")))
        return [one for one in (own, *stated) if one in known]

    begins, ends = ids_of("bos"), ids_of("eos")
    if not begins and not ends:
        raise DataError(
            f"{folder}: nothing says which token begins or ends a text: name bos_token or eos_token in "
            f"{TOKENIZER_CONFIG}"
        )
    start = (begins or ends)[0]
    return ControlTokens(start, tuple(dict.fromkeys((*ends, start))), (*ids_of("pad"), start)[0])


def mask_token(folder: Path) -> int | None:
    """The id that stands where a token is hidden, as a folder's `tokenizer_config.json` names it; None for none."""
    tokenizer = load_tokenizer(folder)
    number = tokenizer.token_to_id(token_text(read_object(folder / TOKENIZER_CONFIG).get("mask_token")))
    return number if number in special_tokens(tokenizer) else None


def special_tokens(tokenizer: "Tokenizer") -> dict[int, str]:
    """The control tokens of a tokenizer, by id."""
    return {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}


def token_text(value: Any) -> str:
    """A token as `tokenizer_config.json` names it: as text, or as an object with its contents; empty for none."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none, DataError where it is something else."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not JSON that can be read ({error})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds no JSON object")
    return value


def _listed(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, int)]
