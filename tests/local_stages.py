"""The stages of a recipe that fetches nothing, such as smoke and quick: `from local_stages import STAGE_NAMES`."""

from flows.build import building
from flows.recipe import load_recipe

STAGE_NAMES = building(load_recipe("smoke")).stage_names
