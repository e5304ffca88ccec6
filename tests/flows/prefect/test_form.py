"""The short form: what its fields ask for, what is refused and how, and which recipes it offers."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import Command

from flows.prefect.form import BUILD_FIELDS, RETRAIN_FIELDS, form_recipe, form_schema, refusal_of_form, settings_of
from flows.recipe import known_recipes, load_recipe
from storage.errors import ConfigError


@pytest.fixture(autouse=True)
def own_home(home: Path) -> Path:
    return home


def test_an_empty_form_is_the_recipe_itself() -> None:
    empty = dict.fromkeys(BUILD_FIELDS) | {"recipe": "smoke", "source": "", "settings": " \n"}
    assert form_recipe(empty) == load_recipe("smoke")


def test_dials_take_the_place_of_what_the_recipe_has_and_the_users_own_lines_win() -> None:
    form = {"recipe": "smoke", "size": "micro", "tokens": 4096, "vocabulary_size": 600, "epochs": 2.5}
    made = form_recipe(form | {"settings": "pretrain.size=mini\n\nfilter.min_words=9\n"})
    assert (made.pretrain.size, made.pretrain.tokens, made.pretrain.steps) == ("mini", 4096, None)
    assert (made.tokenizer.vocabulary_size, made.finetune.epochs, made.finetune.steps) == (600, 2.5, None)
    assert made.filter.min_words == 9


def test_a_source_of_ones_own_takes_the_place_of_what_code_makes(tmp_path: Path) -> None:
    made = form_recipe({"recipe": "smoke", "source": f" {tmp_path}/texts "})
    assert made.collect.synthetic is None and made.collect.docstrings is None
    assert [entry.path for entry in made.collect.files] == [f"{tmp_path}/texts"]
    with pytest.raises(ConfigError, match="'texts' is relative"):
        form_recipe({"recipe": "smoke", "source": "texts"})
    with pytest.raises(ConfigError, match=r"filter.blocked_urls.1: 'hosts' is relative"):
        form_recipe({"recipe": "smoke", "settings": "filter.blocked_urls=[/lists/urls, hosts]"})


def test_tasks_are_names_and_paths_a_line() -> None:
    made = form_recipe({"recipe": "smoke", "tasks": "arc_easy\n/data/tasks/mine.yaml"})
    assert [(task.name, task.path) for task in made.evaluate.tasks] == [
        ("arc_easy", None),
        (None, "/data/tasks/mine.yaml"),
    ]


@pytest.mark.parametrize(
    "setting", ["filter.min_wrds=3", "filter.min_words=-3", "pretrain.steps", "evaluate.stride=4000", "filter=]"]
)
def test_a_line_is_refused_with_the_words_of_the_command_line(setting: str, command: Command, home: Path) -> None:
    refused = refusal_of_form(BUILD_FIELDS, {"recipe": "smoke", "settings": setting})
    status, _, err = command("plan", "smoke", "--set", setting, home=home)
    assert refused is not None and refused[0] == "settings"
    assert status == 2 and refused[1] in err


def test_nothing_is_said_of_the_forms_of_others_nor_of_one_that_is_right() -> None:
    assert refusal_of_form(("recipe", "servings"), {"recipe": "goulash", "settings": "x"}) is None
    assert refusal_of_form(RETRAIN_FIELDS, {"recipe": "smoke", "settings": ""}) is None
    field, message = refusal_of_form(RETRAIN_FIELDS, {"recipe": "smok"}) or ("", "")
    assert field == "recipe" and "did you mean 'smoke'?" in message


def test_every_field_says_what_it_is_and_a_number_its_bounds() -> None:
    schema = form_schema(BUILD_FIELDS)
    assert tuple(schema) == BUILD_FIELDS and [field["position"] for field in schema.values()] == list(range(10))
    assert all(field["description"] and field["title"] for field in schema.values())
    assert "null" not in json.dumps(schema), "a tab that says: Property is type None"
    assert (
        schema["vocabulary_size"]["minimum"] == 260 and "260 to 1,048,576" in schema["vocabulary_size"]["description"]
    )
    assert schema["size"]["enum"][0] == "nano"


def test_a_recipe_file_that_was_deployed_goes_by_its_name(
    command: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on: in the form, in a worker, on the command line, and wherever its texts are found from."""
    from flows.recipe import save_recipe

    (tmp_path / "texts").mkdir()
    file = tmp_path / "mine.yaml"
    file.write_text("collect: {files: [{name: own, path: texts}]}\nfilter: {preset: books, min_words: 7}\n")
    recipe = load_recipe(str(file))
    path = save_recipe(recipe)
    file.unlink()
    monkeypatch.chdir("/")
    assert form_recipe({"recipe": "mine"}) == load_recipe("mine") == recipe
    assert "mine" in form_schema(BUILD_FIELDS)["recipe"]["enum"] and "mine" in known_recipes()
    assert yaml.safe_load(path.read_text())["collect"]["files"][0]["path"] == str(tmp_path / "texts")
    status, out, _ = command("plan", "mine", home=home)
    assert status in (0, 2) and "unknown" not in out.partition("collect")[0]


def test_a_recipe_with_a_shipped_name_is_not_saved_over_it(tmp_path: Path) -> None:
    from flows.recipe import save_recipe

    file = tmp_path / "x.yaml"
    file.write_text("name: quick\ncollect: {synthetic: {}}\n")
    with pytest.raises(ConfigError, match="ships with llmill"):
        save_recipe(load_recipe(str(file)))


def test_lines_without_end_and_values_with_quotes_come_through() -> None:
    values: dict[str, Any] = {"recipe": "smoke", "settings": 'release.description="it\'s \\"small\\""\r\n'}
    assert form_recipe(values).release.description == 'it\'s "small"'
    assert settings_of({"settings": None}) == []
