"""How text is split into words before it is encoded, by the names that llama.cpp has for it."""

from typing import Any

from storage.errors import DataError

SPLITS = {  # patterns applied one after another
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "gpt-2": (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",),
    "llama-bpe": (  # Llama 3's and GPT-4's: runs of at most three digits
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+",
    ),
    "qwen2": (  # each digit by itself
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+",
    ),
}

# DeepSeek's three patterns, each applied to what the one before has left whole, as one. What the first two take out
# ends a piece: digits, and in a piece of kana (_KANA: the range and its letters, signs and the rest) no other letter.
_KANA = "一-龥\u3040-ゟ゠-ヿ"
_LETTERS, _SIGNS = rf"[[\p{{L}}\p{{M}}]--[{_KANA}]]", rf"[[\p{{P}}\p{{S}}]--[{_KANA}]]"
_NEITHER = rf"[[^\r\n\p{{L}}\p{{P}}\p{{S}}]--[\p{{N}}{_KANA}]]"
_OTHERS = rf"[[^\s\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}]--[{_KANA}]]"
_KANA_LETTERS, _KANA_SIGNS = rf"[[{_KANA}]&&[\p{{L}}\p{{M}}]]", rf"[[{_KANA}]&&[\p{{P}}\p{{S}}]]"
_KANA_NEITHER, _KANA_OTHERS = rf"[[{_KANA}]--[\p{{L}}\p{{P}}\p{{S}}]]", rf"[[{_KANA}]--[\p{{L}}\p{{M}}\p{{P}}\p{{S}}]]"
_DEEPSEEK = (
    rf"\p{{N}}{{1,3}}|{_KANA_NEITHER}?{_KANA_LETTERS}+|{_KANA_SIGNS}+|{_KANA_OTHERS}+(?!{_KANA_LETTERS})"
    rf"|[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{{|}}~][A-Za-z]+|{_NEITHER}?{_LETTERS}+| ?{_SIGNS}+[\r\n]*"
    rf"|{_OTHERS}+(?!{_LETTERS})|\s*[\r\n]+|\s+(?![^\s\p{{N}}{_KANA}])|\s+"
)
PATTERNS = {  # each split as one pattern, for regular expressions that know sets of characters
    name: patterns[0] for name, patterns in SPLITS.items()
} | {"deepseek-v3": _DEEPSEEK}


def split_name(tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name for the split into words of a `tokenizer.json`; DataError for one that is not known here."""
    cut = tokenizer.get("pre_tokenizer") or {}
    steps = cut.get("pretokenizers", (cut,))
    found = tuple(step["pattern"].get("Regex") for step in steps if step.get("type") == "Split")
    if not found and any(step.get("type") == "ByteLevel" and step.get("use_regex", True) for step in steps):
        return "gpt-2"  # the library's own
    for name, patterns in SPLITS.items():
        if found == patterns and any(step.get("type") == "ByteLevel" for step in steps):
            return name
    raise DataError(f"the tokenizer splits text in a way that llama.cpp has no name for; known: {', '.join(SPLITS)}")
