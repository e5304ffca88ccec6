"""Keys, tokens and private keys of well-known forms, replaced whole.

The forms are those that their issuers publish, since others look like any other letters: PEM private keys (RFC 7468),
JSON Web Tokens (RFC 7519), and the prefixes of AWS, GitHub, GitLab, Google, Hugging Face, npm, OpenAI and its likes
(llmill's own keys too), Slack, Stripe. Letters and digits are ASCII: a key that stands in Chinese text touches its
letters. Each pattern has bounded repeats, or one that nothing follows: linear in the text.
"""

import re

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
    r")"
)
# To its end: the prefix tells a token, however long it is. A private key that is cut off has lines of base64 alone,
# and a line's end may be written as `\n`, as in JSON.
_WHOLE = re.compile(
    rf"{_BEGINS}(?:[^-]|-(?!----)){{0,20000}}-----END [A-Z0-9 ]{{0,60}}-----"
    rf"|{_BEGINS}(?:(?:\s|\\[nr]){{0,4}}[A-Za-z0-9+/=]{{16,128}})*"
    rf"|{_TOKENS}[\w-]*",
    re.ASCII,
)


def redact_secrets(text: str) -> tuple[str, int]:
    """The text with SECRET for each key or token, and how many there were. A second pass changes nothing."""
    return _WHOLE.subn(SECRET, text)
