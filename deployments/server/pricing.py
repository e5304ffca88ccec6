"""Plans: what tokens cost, and what a key may use. They are data (`deployments/pricing.yaml`, or a user's file)."""

import math
import os
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.errors import ConfigError, did_you_mean
from storage.service import Limits
from storage.yaml_files import read_yaml

SHIPPED = Path(__file__).parents[1] / "pricing.yaml"
VARIABLE = "LLMILL_PRICING"
MILLION = 1_000_000
Price = Field(ge=0, le=1_000_000, decimal_places=6, description="Price of a million tokens, in the file's currency.")


class Plan(BaseModel):
    """Prices of a million tokens, and limits of each key."""

    model_config = ConfigDict(extra="forbid")

    prompt: Decimal = Price
    cached: Decimal = Price
    made: Decimal = Price
    requests_per_minute: int | None = Field(None, ge=1, le=1_000_000, description="Requests a key may send a minute.")
    tokens_per_day: int | None = Field(None, ge=1, description="Tokens a key may use, read and made, a day.")
    budget: Decimal | None = Field(None, ge=0, decimal_places=6, description="Money a key may use in its whole life.")
    slowed_after_hits: int | None = Field(
        20, ge=1, le=1_000_000, description="Flagged prompts in 24 hours after which a key is slowed; null: never."
    )
    slowed_requests_per_minute: int = Field(
        2, ge=1, le=1_000_000, description="Requests that a slowed key may send a minute."
    )
    stopped_after_hits: int | None = Field(
        100, ge=1, le=1_000_000, description="Flagged prompts in 24 hours after which a key is stopped; null: never."
    )

    @property
    def limits(self) -> Limits:
        """What each key may use."""
        return Limits(
            self.requests_per_minute, self.tokens_per_day, None if self.budget is None else micros(self.budget)
        )

    def price(self, prompt: int, cached: int, made: int) -> int:
        """The price of a request in millionths of the currency, rounded up once."""
        exact = (prompt - cached) * self.prompt + cached * self.cached + made * self.made
        return math.ceil(exact)


class Pricing(BaseModel):
    """All plans of a server."""

    model_config = ConfigDict(extra="forbid")

    currency: str = Field(pattern=r"^[A-Z]{3}$", description="Its code by ISO 4217, such as EUR.")
    plans: dict[str, Plan]

    def plan(self, name: str) -> Plan:
        """The plan of that name; ConfigError where there is none."""
        if name not in self.plans:
            raise ConfigError(
                f"plan {name!r}: not known{did_you_mean(name, self.plans)}; known: {', '.join(self.plans)}"
            )
        return self.plans[name]


def micros(amount: Decimal) -> int:
    """Millionths of an amount."""
    return int(amount * MILLION)


def read_pricing() -> Pricing:
    """The plans of the file that the environment names, else of the one that ships; ConfigError for a wrong one."""
    path = Path(os.environ.get(VARIABLE) or SHIPPED)
    try:
        return Pricing.model_validate(read_yaml(path, "a file of prices", "currency and plans"))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
