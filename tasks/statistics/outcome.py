"""What a comparison comes to, in one word: of a score with its baseline, of two models on the same items."""

from enum import StrEnum


class Outcome(StrEnum):
    """`better` and `worse` only where a whole interval says so, `unclear` in between; the others compare nothing."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "unclear"
    ALONE = "alone"  # a score without a baseline, or a finding: neither way is better
    MISSING = "missing"  # a score without a value
    NOT_MEASURED = "not measured"  # two models that have no item in common
