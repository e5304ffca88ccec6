"""Signals, limits and rules of the filter in words, from what the recipe says of each rule."""

from tasks.filter.config import FilterConfig
from tasks.filter.edit import LINE_RULES
from tasks.wording import as_per_cent, figure


def signal_text(signal: str) -> str:
    """A signal for people, from what the recipe says of its rule: `max_top_2_gram` limits `characters in ...`."""
    for rule in (f"min_{signal}", f"max_{signal}"):
        field = FilterConfig.model_fields.get(rule)
        if field and field.description:
            words = field.description.removesuffix(".").removesuffix(" (share, 0-1)").partition(" ")
            return words[2] if words[0] in ("Fewest", "Most", "Least") else field.description
    return signal.replace("_", " ")


def limit_text(signal: str, value: float) -> str:
    """A value of a signal: shares as per cent."""
    return as_per_cent(value) if _is_share(signal) else figure(value)


def _is_share(signal: str) -> bool:
    """Whether the recipe calls the signal a share."""
    fields = (FilterConfig.model_fields.get(f"{side}_{signal}") for side in ("min", "max"))
    return any(field is not None and "(share" in (field.description or "") for field in fields)


def value_text(rule: str, value: float) -> str:
    """What a rule has found in one document."""
    if rule in LINE_RULES:
        return f"{value:.0f} lines removed"
    signal = rule.partition("_")[2] or "bytes"
    return f"{signal_text(signal)}: {limit_text(signal, value)}"


def rule_text(rule: str, threshold: float) -> str:
    """Why a rule drops documents."""
    side, _, signal = rule.partition("_")
    if rule in LINE_RULES:
        described = (FilterConfig.model_fields[rule].description or "").removesuffix(".")
        return f"Too little left by the line rule: {described[:1].lower()}{described[1:]}"
    if not signal:
        return "no text, or none left after editing"
    text, relation = signal_text(signal), "below" if side == "min" else "above"
    return f"{text[:1].upper()}{text[1:]}: {relation} {limit_text(signal, threshold)}"
