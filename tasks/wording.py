"""Numbers, sizes, times and long texts as people read them: one way for the terminal, the report and the card."""

from typing import Any


def duration(seconds: float | None) -> str:
    """Seconds for people: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`; `unknown` for None."""
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def rough_duration(seconds: float) -> str:
    """A duration in at most ten columns: from ten minutes on without seconds, from ten hours on without minutes, from
    ten days on in days, from a thousand days on in years."""
    if round(seconds) < 600:
        return duration(seconds)
    if round(seconds) < 3600:
        return f"{round(seconds / 60)} min"
    if seconds < 36_000:
        return duration(seconds)
    days = seconds / 86_400
    if days < 10:
        return f"{round(seconds / 3600)} h"
    if days < 1000:
        return f"{round(days)} days"
    return f"{round(days / 365.25)} years" if days < 364_000 else "999+ years"


def size(count: float) -> str:
    """Bytes for people: `812 B`, `4.0 MB`, `1.3 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def when(timestamp: str) -> str:
    """A time stamp of a run file or build record for people: `2026-11-25 01:20`, UTC."""
    return timestamp[:16].replace("T", " ")


def clipped(value: Any, columns: int, *, keep_end: bool = False) -> str:
    """A value on one line of at most so many columns; `keep_end` cuts its beginning."""
    return cut(" ".join(str(value).split()), columns, keep_end=keep_end)


def cut(text: str, characters: int, *, keep_end: bool = False) -> str:
    """A text of at most so many characters, its white space as it is; `...` is where some are left out."""
    if len(text) <= characters:
        return text
    return "..." + text[3 - characters :] if keep_end else text[: characters - 3] + "..."


def figure(value: Any) -> str:
    """A figure for people: thousands separated, four significant digits; `none` for None."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1_000 <= abs(value) < 1e15 else f"{value:.4g}"
    return str(value)


def signed(difference: float) -> str:
    """A difference for people, always with its sign: thousands separated, three significant digits."""
    return f"{difference:+,.0f}" if 1_000 <= abs(difference) < 1e15 else f"{difference:+.3g}"


def as_per_cent(share: float) -> str:
    """A share, 0 to 1, for people: three significant digits, with a space before the sign at which no line ends."""
    return f"{100 * share:.3g}\u00a0%"


def amount(count: float | None) -> str:
    """How many, for people: `8.58 million` tokens or parameters, `12,345` documents."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if count is not None and count >= unit:
            return f"{count / unit:.3g} {name}"
    return figure(count)
