"""YAML files that a person writes, read strictly."""

from pathlib import Path
from typing import Any

import yaml

from storage.errors import ConfigError, LlmillError

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
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is given twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(
    path: Path,
    what: str,
    parts: str,
    *,
    loader: type[Any] = Loader,
    error: type[LlmillError] = ConfigError,
    where: str = "",
) -> dict[str, Any]:
    """The mapping that a file holds, not yet validated.

    `what` says in errors what the file should be, `parts` what it is a mapping of, `where` stands before its path. What
    is wrong is raised as `error`: size, encoding, syntax (with line and column), depth, or no mapping.
    """
    name = f"{where}{path}"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise error(f"{name}: larger than {MAX_BYTES:,} bytes; this is not a {what}")
        data = path.read_bytes()
    except OSError as caught:
        raise error(f"{name}: cannot be read ({caught.strerror})") from None
    return yaml_mapping(data, name, what, parts, loader=loader, error=error)


def yaml_mapping(
    data: bytes,
    name: str,
    what: str,
    parts: str,
    *,
    loader: type[Any] = Loader,
    error: type[LlmillError] = ConfigError,
) -> dict[str, Any]:
    """The mapping that a text holds, as `read_yaml` has it of a file; `name` says in errors where the text stands."""
    try:
        document = yaml.load(data.decode(), loader)
    except yaml.MarkedYAMLError as caught:
        mark = caught.problem_mark or caught.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise error(f"{name}{place}: not valid YAML: {caught.problem or caught.context}") from None
    except RecursionError:
        raise error(f"{name}: nested too deeply for a {what}") from None
    except (yaml.YAMLError, ValueError, TypeError) as caught:
        raise error(f"{name}: not valid YAML in UTF-8: {caught}") from None
    if not isinstance(document, dict):
        raise error(f"{name}: a {what} is a mapping of {parts}")
    return document
