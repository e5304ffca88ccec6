"""The reasons of a decision for a person: what was set comes first, what only follows from it is counted.

Run files and `--json` hold all of them.
"""

from collections.abc import Sequence

from flows.terminal.columns import wrapped
from storage.listing import and_more, first_few
from tasks.engine.about import About
from tasks.engine.decide import Decision

SHOWN_REASONS = 3  # in one line
SHOWN_LINES = 4  # in a table
LINES_OF_ONE = 2


def reason_lines(decision: Decision, about: About, head: str) -> list[str]:
    """The reasons as lines of a table, `head` before the first: about four, then how many more there are."""
    reasons, indent = _in_order(decision, about), " " * len(head)
    if decision.will == "maybe" and len(reasons) > 1:
        reasons = [f"{reasons[0]}, {and_more(len(reasons) - 1)}"]
    lines: list[str] = []
    for number, reason in enumerate(reasons):
        more = wrapped(reason, indent if lines else head, indent, most=LINES_OF_ONE)
        if lines and len(lines) + len(more) > SHOWN_LINES:
            return [*lines, f"{indent}{and_more(len(reasons) - number)}"]
        lines += more
    return lines


def reasons_text(decision: Decision, about: About) -> str:
    """The first reasons in one line."""
    return "; ".join(first_few(_in_order(decision, about), SHOWN_REASONS))


def _in_order(decision: Decision, about: About) -> Sequence[str]:
    """The dial of a stage before its other settings; those that follow from it are counted behind them."""
    following = _following(decision, about)
    settings = [line for line in decision.why if line.startswith("config ") and _setting(line) not in following]
    settings.sort(key=lambda line: _setting(line) != about.dial)
    if following:
        settings.append(and_more(len(following), "settings that follow"))
    first = next((number for number, line in enumerate(decision.why) if line.startswith("config ")), 0)
    others = [line for line in decision.why if not line.startswith("config ")]
    return [*others[:first], *settings, *others[first:]]


def _following(decision: Decision, about: About) -> set[str]:
    """The settings that differ from those of the closest build because the dial that decides them does."""
    if decision.record is None or not about.presets:
        return set()
    old, new = decision.record["identity"]["config"], decision.identity.config
    if old.get(about.dial) == new[about.dial]:
        return set()
    given = about.presets[new[about.dial]]
    changed = {_setting(line) for line in decision.why}
    return {name for name in changed if name in given and new[name] == _plain(given[name])}


def _setting(line: str) -> str:
    """The name of the setting that a reason is about, without its stage: `config filter.preset: none -> books`."""
    return line.removeprefix("config ").partition(":")[0].partition(".")[2]


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
