"""The base of every stage's config: frozen, strict about names, one line of description a field."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

LOCATION: JsonDict = {"identity": False}  # `Field(json_schema_extra=LOCATION)`: says where data are, not what they are


class StageConfig(BaseModel):
    """The fields of a stage; how a stage is carried out is in `Execution` instead.

    All fields decide the result and enter the stage's key, except those marked LOCATION: what is there is observed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def identity(self) -> dict[str, Any]:
        """The JSON form of the fields that decide the result."""
        return {
            name: _identity(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("identity") is False)
        }


def _identity(value: Any) -> Any:
    if isinstance(value, StageConfig):
        return value.identity()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (list, tuple)):
        return [_identity(item) for item in value]
    if isinstance(value, dict):
        return {name: _identity(item) for name, item in value.items()}
    return value
