"""The bytes of one token: what log-probabilities name it by, since half a character is no text.

Two kinds of vocabulary are in use. Byte-level ones write each byte as a character (Radford et al. 2019, GPT-2's
`bytes_to_unicode`): printable bytes of Latin-1 as themselves, the others from U+0100 on. SentencePiece's write the
bytes that no piece has as `<0x00>` to `<0xFF>`.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SENTENCEPIECE_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def _byte_level() -> dict[str, int]:
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(0x100) if byte not in shown)
    return {chr(byte): byte for byte in shown} | {chr(0x100 + number): byte for number, byte in enumerate(others)}


BYTE_LEVEL: Mapping[str, int] = _byte_level()


def token_bytes(tokenizer: "Tokenizer", token: int) -> bytes:
    """The bytes that a token adds to a text; none of an id without a token."""
    text: str = tokenizer.decode([token], skip_special_tokens=False)
    if "\ufffd" not in text:
        return text.encode()
    piece = tokenizer.id_to_token(token) or ""
    if found := SENTENCEPIECE_BYTE.fullmatch(piece):
        return bytes([int(found[1], 16)])
    if all(character in BYTE_LEVEL for character in piece):
        return bytes(BYTE_LEVEL[character] for character in piece)
    return text.encode()


def token_name(token: str) -> str:
    """A name that no other token has: its text, or where half a character is none (its bytes are surrogates, PEP 383)
    as OpenAI's API writes it, `bytes:\\xe4\\xb8`."""
    data = token.encode(errors="surrogateescape")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
