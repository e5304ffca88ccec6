"""Golden prompts: what a release answered when it was made, by which a server knows that its engine says the same.

`golden.json` of a release: prompts as ids, each with the likeliest tokens that follow, their log-probabilities, and by
how much each was likelier than the next one (its margin), both in nats.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from storage.errors import DataError
from tasks.answer.release import check_sums

GOLDEN = "golden.json"
GOLDEN_TOKENS = 16
Numbers = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=GOLDEN_TOKENS)]


class GoldenPrompt(BaseModel):
    """A prompt, and the answer to it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ids: list[int] = Field(min_length=1, max_length=1 << 20)
    tokens: list[int] = Field(min_length=1, max_length=GOLDEN_TOKENS)
    text: str
    log_probabilities: Numbers
    margins: Numbers

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.tokens) == len(self.log_probabilities) == len(self.margins):
            raise ValueError("each token has a log-probability and a margin")
        return self


class GoldenFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompts: list[GoldenPrompt] = Field(min_length=1, max_length=64)


def read_golden(folder: Path) -> list[GoldenPrompt]:
    """The golden prompts of a folder; none where it has no such file. DataError for one that is damaged."""
    path = folder / GOLDEN
    if not path.is_file():
        return []
    check_sums(folder, [GOLDEN])
    try:
        return GoldenFile.model_validate_json(path.read_bytes()).prompts
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "not JSON"
        raise DataError(f"{path}: {where}: {first['msg']}; make the release again, or copy it again") from None
