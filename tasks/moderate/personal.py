"""Personal data and secrets in a text: what the filter would redact, and keys and tokens of well-known forms.

The forms of secrets are those that their issuers publish, since others look like any other letters: PEM private keys
(RFC 7468), JSON Web Tokens (RFC 7519), and the prefixes of AWS, GitHub, GitLab, Google, Hugging Face, npm, OpenAI and
its likes (llmill's own keys too), Slack, Stripe. Each pattern is linear in the text.
"""

import re
from collections.abc import Iterator, Sequence

from tasks.filter.phones import countries_of
from tasks.filter.redact import redact

SECRET = "secret"
_SECRETS = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY-----"
    r"|(?<![\w-])(?:"
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


def found_in(text: str, detectors: Sequence[str], regions: Sequence[str], stated: str = "") -> Iterator[str]:
    """Those of the detectors that find something; `stated` is the language that the source states, if any."""
    regions = tuple(regions) or countries_of(stated)
    for detector in detectors:
        if detector == SECRET:
            if _SECRETS.search(text):
                yield detector
        elif redact(text, (detector,), regions)[1][detector]:
            yield detector
