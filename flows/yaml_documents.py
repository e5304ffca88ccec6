"""Documents that a person writes: YAML read with care, and what pydantic finds wrong in them, said for that person."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from storage.errors import ConfigError, did_you_mean

MAX_BYTES = 1 << 20


class Loader(yaml.SafeLoader):
    """Safe YAML in which a repeated key is an error and aliases are refused: our documents need neither."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem="aliases are not used here: write it out", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, model: type[BaseModel], what: str) -> dict[str, Any]:
    """The mapping that a file holds, not yet validated; `what` says in errors what the file should be."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes; this is no {what}")
        document = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply for a {what}") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not valid YAML in UTF-8: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a {what} is a mapping of sections ({', '.join(model.model_fields)})")
    return document


def explain(where: str, error: ValidationError, model: type[BaseModel]) -> str:
    """All that is wrong with a document, a line each, with the nearest known name for an unknown one."""
    errors = error.errors(include_url=False)
    own = [details for details in errors if details["type"] != "default_factory_not_called"]  # follows from another
    lines = [_explain_one(details, model) for details in own or errors]
    return f"{where}: " + ("; ".join(lines) if len(lines) == 1 else "\n  " + "\n  ".join(lines))


_MESSAGES = {  # where pydantic speaks of Python's types
    "model_type": "input should be a mapping of fields",
    "dict_type": "input should be a mapping of fields",
    "tuple_type": "input should be a list",
}


def _explain_one(details: ErrorDetails, model: type[BaseModel]) -> str:
    location = list(details["loc"])
    where = ".".join(str(part) for part in location)
    if details["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return f"{where}: unknown key{did_you_mean(str(location[-1]), known)}. Known: {', '.join(known)}"
    if details["type"] == "missing":
        return f"{where}: is required"
    if details["type"] == "value_error":  # raised by a model of ours, about several fields
        return f"{where}: {details['ctx']['error']}".removeprefix(": ")
    shown = repr(details["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
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
