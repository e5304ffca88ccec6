"""E-mail addresses and public IP addresses in running text.

Patterns use ASCII digits: `\\d` would also match digits of other scripts, which no validator below accepts. Each has
bounded repeats only: linear in the text.

What looks alike and stays: version numbers (1.2.3.4 after "version", "v", "==", "/" or in a longer chain) and other
chains of four short numbers (one real address in 700 is as short), private, loopback and documentation addresses,
slices (`a[::2]`), clock times, `a @ b`, decorators and domains that end as none can (the public suffix list),
`git@host` and `user@host:path`, addresses within the path of a URL.
"""

import ipaddress
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

_EMAIL_DOMAIN = re.compile(r"@((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24})(?![\w@-]|\.\w)")
_EMAIL_LOCAL_PART = re.compile(r"(?<![\w%+@-])[\w%+-][\w.%+-]{0,63}$")  # after another address too, after a point
_REMOTE = re.compile(r":[\w.~-]*/")  # behind a host: the path of a repository or a copy, as git and scp write it
_ROLES = ("git", "hg", "svn", "anonymous")  # not a person's name
_OTHER_ENDINGS = ("local", "lan", "internal", "intranet", "corp", "home", "example", "test")  # no public suffix
_NOBODYS_DOMAIN = re.compile(r"(?:.*\.)?(?:example\.(?:com|net|org)|invalid|localhost)", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\w.\-+])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-]|\.[0-9])")
_IPV6 = re.compile(r"(?<![\w.])(?<![0-9A-Fa-f:]:)[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:]|\.[0-9])")
# They begin with the rare sign, which is found much faster than a digit.
_MAY_HOLD_IPV4 = re.compile(r"\.(?<=[0-9]\.)[0-9]{1,3}\.[0-9]")
_MAY_HOLD_IPV6 = re.compile(r":(?<=[23][0-9A-Fa-f]{3}:)")
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:versions?|ver|release[sd]?|build|firmware|v)\.?:?|[=<>~!]=|(?<!/)/)\s?$|[=<~]$", re.I
)
_NAMED_BEFORE = re.compile(r"(?:ip|ipv4|addr|address|host|client|server|src|dst|from)=\s?$", re.IGNORECASE)
_NOT_PUBLIC = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
    "192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3"
)
_GIVEN_OUT = ("2001:", "2002:", "2003:", "24", "26", "28", "2a", "2c")  # IANA, IPv6 global unicast assignments
_CONTEXT_CHARACTERS = 12
_SHORTEST_IPV4_DIGITS = 7


def email_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where e-mail addresses are. The domain is searched for first, since it starts with a rare character."""
    end = 0
    for domain in _EMAIL_DOMAIN.finditer(text):
        if _NOBODYS_DOMAIN.fullmatch(domain[1]) or not _has_known_ending(domain[1]):
            continue
        local = _EMAIL_LOCAL_PART.search(text, max(domain.start() - 65, end), domain.start())
        if local and not _is_remote(local[0], text, local.start(), domain.end()):
            end = domain.end()
            yield local.start(), end


def ip_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where public IP addresses of both versions are, those of version 4 first."""
    if _MAY_HOLD_IPV4.search(text):
        yield from (match.span() for match in _IPV4.finditer(text) if _is_public_ipv4(match))
    if _MAY_HOLD_IPV6.search(text):
        yield from (match.span() for match in _IPV6.finditer(text) if _is_ipv6(match))


def _is_remote(local: str, text: str, start: int, end: int) -> bool:
    """Whether it names an account on a host (git@host, user@host:path/file) or a part of a URL's path."""
    between_slashes = text[start - 1 : start] == "/" == text[end : end + 1]
    return local in _ROLES or between_slashes or _REMOTE.match(text, end) is not None


@lru_cache(maxsize=65_536)
def _has_known_ending(domain: str) -> bool:
    """Whether a domain ends as a registered, an in-house or a made up one can: `a@property.setter` does not."""
    name = domain.lower()
    return name.rpartition(".")[2] in _OTHER_ENDINGS or _suffixes().publicsuffix(name, accept_unknown=False) is not None


@cache
def _suffixes() -> "PublicSuffixList":
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


def _is_public_ipv4(match: re.Match[str]) -> bool:
    if sum(map(str.isdigit, match[0])) < _SHORTEST_IPV4_DIGITS:
        return False
    if _is_version(match.string, match.start(), match.end()):
        return False
    try:
        address = ipaddress.IPv4Address(match[0])
    except ValueError:  # an octet over 255 or with a leading zero
        return False
    return not any(address in network for network in _not_public())


def _is_version(text: str, start: int, end: int) -> bool:
    """Whether what is before four numbers says that they are a version's: not `ip=1.2.3.4`, nor `<1.2.3.4>`."""
    first = max(start - _CONTEXT_CHARACTERS, 0)
    in_brackets = text[start - 1 : start] == "<" and text[end : end + 1] == ">"
    version = _VERSION_BEFORE.search(text, first, start)
    return version is not None and not in_brackets and not _NAMED_BEFORE.search(text, first, start)


def _is_ipv6(match: re.Match[str]) -> bool:
    """An address of a host, in a block that is given out: `2006::` is a year before a block of code."""
    if match[0].endswith("::") or not match[0].lower().startswith(_GIVEN_OUT):
        return False
    try:
        address = ipaddress.IPv6Address(match[0])
    except ValueError:
        return False
    return address not in ipaddress.IPv6Network("2001:db8::/32")


@cache
def _not_public() -> tuple[ipaddress.IPv4Network, ...]:
    return tuple(ipaddress.IPv4Network(network) for network in _NOT_PUBLIC.split())
