"""Documents that a person writes: what pydantic finds wrong in them, explained to that person, and their schema."""

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails

from storage.errors import did_you_mean
from tasks.wording import clipped


def explain(where: str, error: ValidationError, model: type[BaseModel]) -> str:
    """All that is wrong with a document, one line each, with the nearest known name for an unknown one."""
    errors = error.errors(include_url=False)
    own = [details for details in errors if details["type"] != "default_factory_not_called"]  # follows from another
    lines = [explain_one(details, model) for details in own or errors]
    return f"{where}: " + ("; ".join(lines) if len(lines) == 1 else "\n  " + "\n  ".join(lines))


_MESSAGES = {  # in place of pydantic's names of Python types
    "model_type": "input should be a mapping of fields",
    "dict_type": "input should be a mapping of fields",
    "tuple_type": "input should be a list",
}


def explain_one(details: ErrorDetails, model: type[BaseModel]) -> str:
    """One thing that is wrong, behind the place where it stands."""
    location = list(details["loc"])
    where = ".".join(str(part) for part in location)
    if details["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return f"{where}: unknown key{did_you_mean(str(location[-1]), known)}. Known: {', '.join(known)}"
    if details["type"] == "missing":
        return f"{where}: is required"
    if details["type"] == "value_error":  # raised by a model of ours, about several fields
        return f"{where}: {details['ctx']['error']}".removeprefix(": ")
    shown = clipped(repr(details["input"]), 80)
    message = _MESSAGES.get(details["type"], details["msg"][0].lower() + details["msg"][1:])
    return f"{where}: {message} (it is {shown})"


def _fields_at(document: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The field names of the model at a place in a document."""
    model: Any = document
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation if part in getattr(model, "model_fields", {}) else None
        candidates = [annotation, *get_args(annotation), *(b for a in get_args(annotation) for b in get_args(a))]
        models = [one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def with_named_fields(
    schema: CoreSchema, handler: GetJsonSchemaHandler, path: Sequence[str], names: Sequence[str]
) -> dict[str, Any]:
    """A model's JSON schema in which the mapping at `path` has a field for each name: a form draws no others."""
    made = handler(schema)
    field = handler.resolve_ref_schema(made)
    for name in path:
        field = handler.resolve_ref_schema(field)["properties"][name]
        field = field["allOf"][0] if "allOf" in field else field
    value = field.pop("additionalProperties", None)
    if value is not None:  # None: another form of the same model has it already
        field["properties"] = {name: {**value, "description": f"Of the stage {name}."} for name in names}
    return made
