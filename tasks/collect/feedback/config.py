"""What a recipe can set for what users have said: its section `collect.feedback`."""

from typing import Literal

from pydantic import Field

from tasks.engine.config import StageConfig

Prompts = Literal["auto", "declarations", "as_said"]


class FeedbackSource(StageConfig):
    """What users of `llmill serve` have said of answers: corrections, thumbs, votes.

    The records are those of the server's database, in the home or where LLMILL_SERVICE_DATABASE says.
    """

    liked: bool = Field(
        False, description="Whether answers with a thumb up are learned too, beside corrections, which always are."
    )
    prompts: Prompts = Field(
        "auto",
        description="Whether declarations of prompts are put into words, as the pairs of docstrings have them; auto: "
        "as the release takes its prompts.",
    )
    heldout_users: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="Share of the users that is never learned from, by a hash of the user: the verdict's figure.",
    )
    user_share: float = Field(
        0.2, gt=0, le=1, description="Most that one user brings of all records that are learned from, as a share."
    )
    user_records: int = Field(
        50, ge=1, le=1_000_000, description="Records that one user may bring in any case, whatever share they are."
    )
    least_preferences: int = Field(
        100,
        ge=1,
        le=10**9,
        description="Preferences to learn from that it takes for the stage align to be there where `align` is empty.",
    )
