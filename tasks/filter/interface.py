"""Lines of a web page that are no text: RefinedWeb's corrections by line (Penedo et al. 2023, arXiv 2306.01116, G.2).

A line goes that is mainly of capitals, only of numbers, a counter (`3 likes`), or one word; and a line of at most ten
words that begins as `sign in`, ends as `read more...` or holds `items in cart`. The paper names these examples and no
list: the phrases here are the usual ones of English pages. It cuts the phrases out of longer sentences too; here the
line goes whole. Capitals count where letters have case, and more than half are capitals in the paper's `mainly`.
"""

import re
from collections.abc import Sequence

_MOST_WORDS = 10
_MANY = (
    "likes?|shares?|comments?|views?|retweets?|replies|reply|reviews?|followers?|votes?|points?|results?|items?|photos?"
)
_COUNTER = re.compile(rf"(?:[0-9][0-9.,]*\s{{0,3}}[kKmM]?\s{{0,3}}(?:{_MANY})\W*)+", re.IGNORECASE)
_START = re.compile(
    r"(?:sign[ -]?(?:in|up|out)|log[ -]?(?:in|out)|register (?:now|here)|subscribe (?:to|now|here)"
    r"|share (?:this|on|via)|follow us|click here|skip to|add to (?:cart|basket|wishlist)|back to top|home ?[>|»/]"
    r"|download (?:now|the app)|print this)\b",
    re.IGNORECASE,
)
_END = re.compile(
    r"\b(?:(?:read|learn|see|show|view|load) (?:more|all|less)|continue reading|click here|sign in|log in|view cart"
    r"|all rights reserved)\W*$",
    re.IGNORECASE,
)
_ANYWHERE = re.compile(r"\bitems? in (?:your )?(?:shopping )?(?:cart|basket|bag)\b", re.IGNORECASE)


def is_interface(line: str, words: Sequence[str]) -> bool:
    """Whether a line, stripped, of these words is a part of the page and not of its text."""
    if len(words) < 2 and len(line) < 40:  # a word of a script without spaces is a letter, an address has more
        return True
    letters = sum(map(str.isalpha, line))
    if not letters:
        return any(map(str.isdigit, line))
    if 2 * sum(map(str.isupper, line)) > letters or _COUNTER.fullmatch(line):
        return True
    if len(words) > _MOST_WORDS:
        return False
    return any(found for found in (_START.match(line), _END.search(line), _ANYWHERE.search(line)))
