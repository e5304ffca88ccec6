"""Personal data and secrets in a text: what would be replaced in what is kept of users (tasks/filter/personal.py)."""

from collections.abc import Iterator, Sequence

from tasks.filter.personal import redact_personal
from tasks.filter.phones import countries_of


def found_in(text: str, detectors: Sequence[str], regions: Sequence[str], stated: str = "") -> Iterator[str]:
    """Those of the detectors that find something; `stated` is the language that the source states, if any."""
    regions = tuple(regions) or countries_of(stated)
    return (detector for detector in detectors if redact_personal(text, (detector,), regions)[1])
