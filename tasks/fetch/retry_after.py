"""How long a busy server asks to be left alone: the header Retry-After (RFC 9110, 10.2.3)."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_asked(value: str) -> float:
    """The seconds from now that a Retry-After names, by their number or by a day and time; 0 where it names none."""
    value = value.strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no day, or one without a zone
        return 0.0
