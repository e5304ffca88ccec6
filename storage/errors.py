"""Errors that speak to the user.

Every error that the user can mend is an `LlmillError`: the command line prints its message without a
traceback and exits with status 2. Anything else is a bug or the machine's fault and exits with status 1.
A message names the file, line or field, says what is wrong there, and what to do.
"""


class LlmillError(Exception):
    """Something that the user can mend; the message says where and how."""

    exit_status = 2


class ConfigError(LlmillError):
    """A recipe, an option or an environment variable that cannot be used."""


class DataError(LlmillError):
    """Input data that cannot be used: missing, damaged, or not what the recipe says."""


class StoreError(LlmillError):
    """The home or the store cannot be read or written."""
