"""A mark for code that watches and tells, and decides nothing."""

from typing import TypeVar

Definition = TypeVar("Definition")


def bystander(definition: Definition) -> Definition:
    """Say of a function or class that it can't change a result: messages, progress, care for processes.

    It leaves all fingerprints, and so does what it alone reaches: to reword a message or to wait longer for a child
    abandons no training. What returns a value that goes into an artifact is none.
    """
    return definition
