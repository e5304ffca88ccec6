"""Keys, tokens and private keys: those of well-known forms, whole, and values of settings that say what they are.

The forms are those that their issuers publish: PEM private keys (RFC 7468), JSON Web Tokens (RFC 7519), and the
prefixes of age, AWS, DigitalOcean, Docker, GitHub, GitLab, Google, Hugging Face, Linear, npm, OpenAI and its likes
(llmill's own keys too), PyPI, RubyGems, SendGrid, Shopify, Slack, Stripe. Other keys look like any other letters, so
they are found behind a word and a sign alone (`api_key = "..."`, `Authorization: Bearer ...`), where they look random;
UUIDs and .NET's public key tokens stand there too, and stay. Letters and digits are ASCII: a key that stands in Chinese
text touches its letters. Each pattern has bounded repeats, or one that nothing follows: linear in the text.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator

SECRET = "YOUR_SECRET"
_BEGINS = r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY-----"
_TOKENS = (
    r"(?<![A-Za-z0-9_-])(?:"
    r"eyJ[\w-]{8,4096}\.eyJ[\w-]{8,8192}\.[\w-]{16,2048}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}(?!\w)"
    r"|gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{22}_"
    r"|glpat-[\w-]{20}"
    r"|AIza[\w-]{35}"
    r"|hf_[A-Za-z]{34}"
    r"|npm_[A-Za-z0-9]{36}"
    r"|sk-(?:[a-z]{2,12}-){0,2}[A-Za-z0-9_-]{32}"
    r"|xox[abeprs]-[0-9A-Za-z-]{20}"
    r"|[rs]k_live_[0-9A-Za-z]{24}"
    r"|whsec_[0-9A-Za-z+/]{32}"
    r"|pypi-[\w-]{50}"
    r"|SG\.[\w-]{22}\.[\w-]{43}"
    r"|do[opr]_v1_[0-9a-f]{64}"
    r"|dckr_pat_[\w-]{27}"
    r"|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"
    r"|GOCSPX-[\w-]{28}"
    r"|ya29\.[\w-]{30}"
    r"|rubygems_[0-9a-f]{48}"
    r"|lin_api_[0-9A-Za-z]{40}"
    r"|AGE-SECRET-KEY-1[0-9A-Z]{58}"
    r")"
)
# One of these is in each of the forms, and seldom in a text; by a sign without which they need not be looked for.
_MARKS = {
    "_": (
        *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "hf_", "npm_", "k_live_", "whsec_", "_v1_"),
        *("dckr_pat_", "shp", "rubygems_", "lin_api_"),
    ),
    "-": ("glpat-", "sk-", "xox", "pypi-", "GOCSPX-", "AGE-SECRET-KEY-1", "PRIVATE KEY-----"),
    ".": ("eyJ", "SG.", "ya29."),
    "A": ("AKIA", "ASIA", "AIza"),
}
# To its end: the prefix tells a token, however long it is. A private key that is cut off has lines of base64 alone,
# and a line's end may be written as `\n`, as in JSON.
_WHOLE = re.compile(
    rf"{_BEGINS}(?:[^-]|-(?!----)){{0,20000}}-----END [A-Z0-9 ]{{0,60}}-----"
    rf"|{_BEGINS}(?:(?:\s|\\[nr]){{0,4}}[A-Za-z0-9+/=]{{16,128}})*"
    rf"|{_TOKENS}[\w-]*",
    re.ASCII,
)


# Values of settings, behind a word that says what they are. They begin with the rare sign between the two.
_ASSIGNED = re.compile(r"[:=]\s{0,2}(?:Bearer )?[\"'`]{0,3}([A-Za-z0-9+/_.~!@#$%^&*-]{16,512}={0,2})(?![A-Za-z0-9=])")
_NAMED = re.compile(
    r"(?:(?:api|access|secret|private|auth|encryption|signing|account|storage|master|shared)[ _-]?key|secret|token"
    r"|passw(?:or)?d|passwd|pwd|credentials?|authorization)[\"'`\])}]{0,3}\s{0,2}$",
    re.IGNORECASE,
)
_PUBLIC = re.compile(r"public[ _-]?(?:key)?[ _-]?token\W{0,5}$", re.IGNORECASE)
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_WORDS = re.compile(r"[a-z]{8}|[A-Z][a-z]{4,}[A-Z][a-z]{4,}")  # of what people name things
_CHANGES = re.compile(r"[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])")
_BEFORE_CHARACTERS = 40
_LEAST_BITS, _LEAST_CHARACTERS, _LEAST_CHANGES = 3.0, 20, 4
_LEAST_HEXADECIMAL = 32


def secret_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where keys and tokens are. What is found may be found again in what holds it."""
    if any(sign in text and any(mark in text for mark in marks) for sign, marks in _MARKS.items()):
        yield from (match.span() for match in _WHOLE.finditer(text))
    for match in _ASSIGNED.finditer(text):
        before = text[max(0, match.start() - _BEFORE_CHARACTERS) : match.start()]
        if _NAMED.search(before) and not _PUBLIC.search(before) and _is_random(match[1]):
            yield match.span(1)


def _is_random(value: str) -> bool:
    """Whether a value looks drawn by a machine: digits among letters, no word, and Shannon's entropy of its letters."""
    hexadecimal = all(letter in "0123456789abcdefABCDEF" for letter in value)
    if len(value) < (_LEAST_HEXADECIMAL if hexadecimal else _LEAST_CHARACTERS) or _UUID.search(value):
        return False
    if len(_CHANGES.findall(value)) < _LEAST_CHANGES or (not hexadecimal and _WORDS.search(value)):
        return False
    counts = Counter(value)
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values()) >= _LEAST_BITS
