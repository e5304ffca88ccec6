"""A text that a person has typed, without what could name or cost somebody: what is kept of users passes here.

Its language is that which it is likely to be in, so that its countries' telephone numbers are known (phones.py).
"""

from tasks.filter.language import language_of
from tasks.filter.phones import countries_of
from tasks.filter.redact import redact

KINDS = ("email", "card", "phone", "ip")  # cards first: a part of one could be a telephone number


def without_personal_data(text: str) -> str:
    """The text with e-mail addresses, numbers of cards and telephones and public IP addresses replaced by nobody's."""
    language, _ = language_of(text, "", ())
    return redact(text, KINDS, countries_of(language))[0]
