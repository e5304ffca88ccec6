"""The shape of the model that a run will have, as far as it is known before anything runs."""

import dataclasses
from pathlib import Path
from typing import Any

from model.shape import Shape
from tasks.initial.files import known_shape


def foreseen_shape(recipe: Any, vocabulary_size: int) -> Shape | None:
    """That of the open model in a folder, or of the recipe's settings; None for a model that is to be fetched."""
    config = recipe.importing
    if config is None:
        shape: Shape = recipe.pretrain.shape(vocabulary_size)
        return shape
    if config.path is None:
        return None
    shape = known_shape(Path(config.path))
    return dataclasses.replace(shape, context_length=config.shortened(shape.context_length))
