"""The base of every stage's config: frozen, strict about names, one line of description a field."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

LOCATION: JsonDict = {"identity": False}  # `Field(json_schema_extra=LOCATION)`: says where data are, not what they are


class StageConfig(BaseModel):
    """The fields of a stage; how a stage is carried out is in `Execution` instead.

    All fields decide the result and enter the stage's key, except those marked LOCATION: what is there is observed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)

    def identity(self) -> dict[str, Any]:
        """The JSON form of the fields that decide the result."""
        return {
            name: _identity(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if not _is_location(field)
        }


C = TypeVar("C", bound=StageConfig)


def locations(config: StageConfig, place: str = "") -> Iterator[tuple[str, str]]:
    """(where in the recipe, path) of all fields of a config, and of those inside it, that say where data are."""
    for name, field in type(config).model_fields.items():
        value, here = getattr(config, name), f"{place}.{name}" if place else name
        if _is_location(field) and isinstance(value, tuple):
            yield from ((f"{here}.{number}", path) for number, path in enumerate(value))
        elif _is_location(field) and value is not None:
            yield here, value
        elif isinstance(value, StageConfig):
            yield from locations(value, here)
        elif isinstance(value, tuple):
            for number, entry in enumerate(value):
                if isinstance(entry, StageConfig):
                    yield from locations(entry, f"{here}.{number}")


def relocated(config: C, change: Callable[[str], str]) -> C:
    """A config in which every path that says where data are is changed."""
    changed: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if _is_location(field) and value is not None:
            changed[name] = tuple(map(change, value)) if isinstance(value, tuple) else change(value)
        elif isinstance(value, StageConfig):
            changed[name] = relocated(value, change)
        elif isinstance(value, tuple):
            changed[name] = tuple(relocated(one, change) if isinstance(one, StageConfig) else one for one in value)
    return config.model_copy(update=changed)


def _is_location(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("identity") is False


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
