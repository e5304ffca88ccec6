"""Print the page of all settings, made from the recipe itself: `python -m docs.settings > docs/settings.md`."""

from collections.abc import Iterator
from typing import Any

from flows.build import Recipe
from storage.listing import first_few
from tasks.wording import figure

HEAD = """# Settings

Every field of a recipe, made from the code by `python -m docs.settings`. Set one by `--set path=value`, in a recipe
file or in the form; `N` counts the entries of a list from 0. What is under `execution` enters no key; all else decides
the result.
"""
SHOWN = 5  # entries of a list

Schema = dict[str, Any]


def page() -> str:
    """The page, a table a section."""
    schema = Recipe.model_json_schema()
    definitions, parts = schema["$defs"], [HEAD]
    for name, field in schema["properties"].items():
        rows = list(_rows(name, field, definitions))
        parts.append(f"## {field.get('title', name)}\n\n{field['description']}\n")
        parts.append("| setting | default | allowed | meaning |\n|---|---|---|---|")
        parts.append(
            "\n".join(f"| `{path}` | {default} | {allowed} | {text} |" for path, default, allowed, text in rows)
        )
        parts.append("")
    return "\n".join(parts)


def _rows(path: str, field: Schema, definitions: dict[str, Schema]) -> Iterator[tuple[str, str, str, str]]:
    """(setting, default, allowed values, description) of a field, or of all fields of the model that it holds."""
    for kind in _kinds(field, definitions):
        inside = kind.get("items", kind) if kind.get("type") == "array" else kind
        inside = _kinds(inside, definitions)[0]
        if "properties" in inside:
            below = path + (".N" if kind.get("type") == "array" else "")
            for name, inner in inside["properties"].items():
                yield from _rows(f"{below}.{name}", inner, definitions)
            return
    yield path, _default(field), _allowed(_kinds(field, definitions)), field.get("description", "").replace("|", "\\|")


def _kinds(field: Schema, definitions: dict[str, Schema]) -> list[Schema]:
    """What a field may be, references followed, but for the null that means that nothing is set."""
    if "$ref" in field:
        return _kinds(definitions[field["$ref"].rpartition("/")[2]], definitions)
    choices = field.get("anyOf") or field.get("oneOf")
    if not choices:
        return [] if field.get("type") == "null" else [field]
    return [kind for choice in choices for kind in _kinds(choice, definitions)]


def _default(field: Schema) -> str:
    if "default" not in field:
        return "required"
    value = field["default"]
    return "none" if value in (None, [], {}, "") else f"`{value}`" if isinstance(value, str) else _value(value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(first_few([_value(entry) for entry in value], SHOWN))
    return figure(value)


def _allowed(kinds: list[Schema]) -> str:
    found = []
    for kind in kinds:
        values = kind.get("enum") or ([kind["const"]] if "const" in kind else [])
        least = kind.get("minimum", kind.get("exclusiveMinimum"))
        most = kind.get("maximum", kind.get("exclusiveMaximum"))
        if values:
            found.append(", ".join(f"`{value}`" for value in values))
        elif least is not None and most is not None:
            found.append(f"{figure(least)} to {figure(most)}")
        elif least is not None:
            found.append(f"{'over' if 'exclusiveMinimum' in kind else 'from'} {figure(least)}")
        else:
            found.append(
                {"array": "a list", "object": "a mapping", "boolean": "true, false"}.get(
                    kind["type"], "a " + kind["type"]
                )
            )
    return "; ".join(dict.fromkeys(found))


if __name__ == "__main__":
    print(page(), end="")
