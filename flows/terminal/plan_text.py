"""The plan as a table for the terminal, with what each stage is expected to take."""

from collections.abc import Sequence

from flows.estimates import MOST_SPREAD, Estimate, total
from flows.plan import PlannedStage
from flows.terminal.columns import NAMES, wrapped
from flows.terminal.reasons import reason_lines
from tasks.wording import duration, figure, rough_duration


def plan_text(plan: Sequence[PlannedStage]) -> str:
    """The plan as a table: stage, what, estimate, reasons (one on each line)."""
    lines = [f"{'stage':<{NAMES}}{'will':<6}{'about':>10}{'':6} why"]
    for line in plan:
        head = f"{line.stage:<{NAMES}}{line.decision.will:<6}{about(line.estimate):<16} "
        lines += reason_lines(line.decision, line.definition.about, head)
    builds = sum(line.decision.will == "build" for line in plan)
    maybes = sum(line.decision.will == "maybe" for line in plan)
    lines.append(f"{len(plan) - builds - maybes} reused, {builds} to build, {maybes} that may be reused")
    lines.append(_total_text(plan, maybes) + _cost_text(plan))
    return "\n".join(lines)


def _total_text(plan: Sequence[PlannedStage], maybes: int) -> str:
    """How long all of it takes; where some of it is not known, how long the rest takes, which is not a bound."""
    working = [line.estimate for line in plan if line.decision.will != "reuse"]
    known = [estimate for estimate in working if estimate is not None]
    unknown = len(working) - len(known)
    if unknown and not known:
        return "time unknown"
    expected = total(known)
    text = expectation(expected)
    if expected.seconds and expected.spread <= MOST_SPREAD:
        text += f" ({_bound(expected.low)} to {_bound(expected.high)})"
    if unknown:
        return f"{text} for {len(known)} stage{'s' * (len(known) != 1)}, {unknown} unknown"
    if text.startswith("up to"):
        return text
    return f"at most about {text}" if maybes else f"about {text}"


def _bound(seconds: float) -> str:
    """Hours and minutes where they matter, else days or years."""
    return duration(seconds) if seconds < 360_000 else rough_duration(seconds)


def _cost_text(plan: Sequence[PlannedStage]) -> str:
    """What the stages of which the time is known cost, where an hour has a price."""
    costs = [line.cost for line in plan if line.cost is not None]
    if not any(costs):
        return ""
    return f"; {sum(costs):,.2f} at a price of {figure(plan[0].price_per_hour)} an hour"


def notice_lines(plan: Sequence[PlannedStage]) -> list[str]:
    """The notices of all stages, in their order, folded to 80 columns."""
    return [text for line in plan for notice in line.notices for text in wrapped(notice, f"{'notice':<{NAMES}}")]


def about(estimate: Estimate | None) -> str:
    """An expectation and its spread, in 16 columns: `1 min 48 s ±20%`; `up to 42 s` where it may be anything less."""
    if estimate is None or not estimate.seconds or estimate.spread > MOST_SPREAD:
        return f"{expectation(estimate):>10}"
    return f"{rough_duration(estimate.seconds):>10} ±{100 * estimate.spread:.0f}%"


def expectation(estimate: Estimate | None) -> str:
    """The time that is expected, or the longest where the range is so wide that its middle says nothing."""
    if estimate is None:
        return duration(None)
    if estimate.spread > MOST_SPREAD:
        return f"up to {rough_duration(estimate.high)}"
    return rough_duration(estimate.seconds)
