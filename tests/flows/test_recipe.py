"""Recipes: what they accept, and what they say about what they refuse."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.build import Recipe
from flows.recipe import load_recipe, shipped
from storage.errors import ConfigError
from tasks.engine.config import StageConfig
from tasks.retrain.config import RetrainConfig


def test_every_shipped_recipe_is_valid() -> None:
    assert {"smoke", "quick", "books"} <= set(shipped())
    for name in shipped():
        assert load_recipe(name).name == name


def test_set_overrides_any_depth_and_is_read_as_yaml() -> None:
    recipe = load_recipe("smoke", ["filter.min_words=7", "filter.max_words=null", "collect.synthetic.documents=99"])
    assert (recipe.filter.min_words, recipe.filter.max_words) == (7, None)
    assert recipe.collect.synthetic is not None and recipe.collect.synthetic.documents == 99


@pytest.mark.parametrize(
    ("recipe", "settings", "form"),
    [
        ("quick", (), "docstrings"),
        ("quick", ("collect.files=[{path: texts}]",), "docstrings"),  # texts make no pairs
        ("quick", ("collect.conversations=[{path: pairs.jsonl}]",), "chat"),
        ("quick", ("collect.synthetic={}",), "chat"),
        ("quick", ("finetune.pairs=continuations",), "chat"),
        ("quick", ("release.prompt_form=plain",), "plain"),
        ("smoke", (), "chat"),
        ("books", (), "chat"),
        ("books", ("release.prompt_form=docstrings",), "docstrings"),
    ],
)
def test_a_release_is_asked_in_the_form_of_the_pairs(recipe: str, settings: tuple[str, ...], form: str) -> None:
    assert load_recipe(recipe, settings).releasing.prompt_form == form


def test_every_field_has_a_description() -> None:
    def walk(model: type[StageConfig], path: str) -> None:
        for name, field in model.model_fields.items():
            where = f"{path}.{name}"
            assert field.description and "\n" not in field.description, f"{where}: no one-line description"
            if isinstance(field.annotation, type) and issubclass(field.annotation, StageConfig):
                walk(field.annotation, where)

    walk(Recipe, "recipe")


@pytest.mark.parametrize("model", [Recipe, RetrainConfig])
def test_every_number_has_a_lower_and_an_upper_bound(model: type[StageConfig]) -> None:
    """Wherever it stands: beside null, in a list, in a section of a list."""
    schema = model.model_json_schema()
    sections = {model.__name__: schema, **schema["$defs"]}
    numbers = {
        f"{section}.{name}": number
        for section, one in sections.items()
        for name, field in one.get("properties", {}).items()
        for number in _numbers(field)
    }
    assert numbers
    assert [where for where, number in numbers.items() if not _is_bounded(number)] == []


def _numbers(schema: Any) -> Iterator[dict[str, Any]]:
    """The numbers that a field may be or hold."""
    if isinstance(schema, dict) and schema.get("type") in ("integer", "number"):
        yield schema
    inside = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for one in inside:
        yield from _numbers(one)


def _is_bounded(number: dict[str, Any]) -> bool:
    low, high = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
    return bool({"enum", "const"} & number.keys() or (low & number.keys() and high & number.keys()))


def test_relative_sources_of_a_recipe_file_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    file = tmp_path / "mine.yaml"
    file.write_text("collect: {files: [{path: texts}]}\n")
    recipe = load_recipe(str(file))
    assert recipe.collect.files[0].path == str(tmp_path / "texts")
    assert str(tmp_path) not in str(recipe.collect.identity()), "where the texts lie is not part of the identity"


REFUSED = {
    "unknown key": ("filter: {min_word: 3}", ["filter.min_word", "did you mean 'min_words'"]),
    "unknown section": ("filters: {}", ["filters", "did you mean 'filter'"]),
    "out of bounds": ("collect: {synthetic: {documents: 3}}", ["collect.synthetic.documents", "20"]),
    "wrong type": ("pretrain: {steps: many}", ["pretrain.steps", "many"]),
    "key twice": ("filter: {min_words: 1}\nfilter: {}", ["line 2", "'filter' is given twice"]),
    "alias": ("a: &a [1]\nb: *a", ["line 2", "aliases"]),
    "bad YAML": ("filter: {min_words: 3", ["not valid YAML", "line"]),
    "no mapping": ("- 1", ["a recipe is a mapping"]),
    "missing section": ("filter: {}", ["collect", "required"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_recipe_names_the_file_the_field_and_the_fix(case: str, tmp_path: Path) -> None:
    text, expected = REFUSED[case]
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(file))
    for piece in ["bad.yaml", *expected]:
        assert piece in str(caught.value)


@pytest.mark.parametrize("setting", ["filter.min_words", "=3", "collect.files.0.path=x", "filter.min_words.x=3"])
def test_a_bad_override_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError):
        load_recipe("smoke", [setting])


SECTIONS = st.sampled_from([*Recipe.model_fields, "files", "docstrings", "packages", "path", "steps", "0", "", "x"])
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.binary(max_size=3)),
    *(st.text(max_size=5), st.sampled_from(["a", "nano", "none", "auto", 10**400, -(10**30), "9" * 5000])),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SECTIONS | SCALARS, inner, max_size=4)
)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def loads_or_is_refused(file: Path, overrides: list[str]) -> None:
    try:
        assert isinstance(load_recipe(str(file), overrides), Recipe)
    except ConfigError as error:
        assert str(error)


@given(document=st.dictionaries(SECTIONS, VALUES, max_size=4), below=st.dictionaries(SECTIONS, VALUES, max_size=3))
@FUZZ
def test_no_document_ends_in_a_traceback(document: dict[str, Any], below: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "any.yaml"
    document = {"collect": {"synthetic": {}, **below}, **document}
    file.write_text(yaml.dump(document, default_flow_style=True), encoding="utf-8", errors="surrogatepass")
    loads_or_is_refused(file, [])


@given(data=st.binary(max_size=40) | st.text("ab:-[]{}&*!|>'\"#%@?,\n\t 0.", max_size=30).map(str.encode))
@FUZZ
def test_no_bytes_end_in_a_traceback(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "any.yaml"
    file.write_bytes(data)
    loads_or_is_refused(file, [])


@given(path=st.lists(SECTIONS, min_size=1, max_size=4).map(".".join), value=st.text(max_size=12))
@FUZZ
def test_no_override_ends_in_a_traceback(path: str, value: str) -> None:
    try:
        load_recipe("smoke", [f"{path}={value}"])
    except ConfigError as error:
        assert str(error)
