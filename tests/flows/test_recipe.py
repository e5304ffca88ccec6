"""Recipes: what they accept, and what they say about what they refuse."""

from pathlib import Path

import pytest

from flows.recipe import Recipe, load_recipe, shipped
from storage.errors import ConfigError
from tasks.config import StageConfig


def test_every_shipped_recipe_is_valid() -> None:
    assert {"smoke", "quick", "books"} <= set(shipped())
    for name in shipped():
        assert load_recipe(name).name == name


def test_set_overrides_any_depth_and_is_read_as_yaml() -> None:
    recipe = load_recipe("smoke", ["filter.min_words=7", "filter.max_words=null", "collect.synthetic.documents=99"])
    assert (recipe.filter.min_words, recipe.filter.max_words) == (7, None)
    assert recipe.collect.synthetic is not None and recipe.collect.synthetic.documents == 99


def test_every_field_has_a_description_and_every_number_a_bound() -> None:
    def walk(model: type[StageConfig], path: str) -> None:
        for name, field in model.model_fields.items():
            where = f"{path}.{name}"
            assert field.description and "\n" not in field.description, f"{where}: no one-line description"
            if field.annotation in (int, float):
                assert any(type(rule).__name__ in ("Ge", "Gt", "Le", "Lt") for rule in field.metadata), (
                    f"{where}: no bound"
                )
            if isinstance(field.annotation, type) and issubclass(field.annotation, StageConfig):
                walk(field.annotation, where)

    walk(Recipe, "recipe")


def test_relative_sources_of_a_recipe_file_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    file = tmp_path / "mine.yaml"
    file.write_text("collect: {files: [{path: texts}]}\n")
    recipe = load_recipe(str(file))
    assert recipe.collect.files[0].path == str(tmp_path / "texts")
    assert str(tmp_path) not in str(recipe.collect.identity()), "where the texts lie is no identity"


REFUSED = {
    "unknown key": ("filter: {min_word: 3}", ["filter.min_word", "did you mean 'min_words'"]),
    "unknown section": ("filters: {}", ["filters", "did you mean 'filter'"]),
    "out of bounds": ("collect: {synthetic: {documents: 3}}", ["collect.synthetic.documents", "20"]),
    "wrong type": ("pretrain: {steps: many}", ["pretrain.steps", "many"]),
    "key twice": ("filter: {min_words: 1}\nfilter: {}", ["line 2", "'filter' stands twice"]),
    "alias": ("a: &a [1]\nb: *a", ["line 2", "aliases"]),
    "bad YAML": ("filter: {min_words: 3", ["not valid YAML", "line"]),
    "no mapping": ("- 1", ["a recipe is a mapping"]),
    "missing section": ("filter: {}", ["collect", "required"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_recipe_names_the_file_the_field_and_the_mend(case: str, tmp_path: Path) -> None:
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
