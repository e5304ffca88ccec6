"""Long lists in messages: the first few entries, and how many more there are."""

from collections.abc import Sequence

from storage.bystander import bystander


@bystander
def first_few(entries: Sequence[str], most: int, what: str = "") -> list[str]:
    """The first `most` entries, and where there are others a last one that counts them: `and 3 more figures`."""
    left = len(entries) - most
    return [*entries[:most], and_more(left, what)] if left > 0 else list(entries)


@bystander
def and_more(count: int, what: str = "") -> str:
    """`and 1,234 more`, for the end of what is not shown whole; `what` says more of what."""
    return f"and {count:,} more {what}".rstrip()
