"""A mark for code that watches and reports, and decides nothing."""

from typing import TypeVar

Definition = TypeVar("Definition")


def bystander(definition: Definition) -> Definition:
    """Mark a function or class as one that can't change a result: messages, progress, care for processes.

    It leaves all fingerprints, and so does what it alone reaches: to reword a message or to wait longer for a child
    abandons no training. What returns a value that goes into an artifact is not a bystander.
    """
    return definition
