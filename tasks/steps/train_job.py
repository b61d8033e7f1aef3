"""``TrainJob``: what is to be trained, as the step and those who train for it read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from ganinv.config import StrictModel
from ganinv.generators.files import EMBEDDED
from ganinv.methods.registry import AnyRecipe, load_recipe
from ganinv.store import open_store
from ganinv.training.product import Places
from tasks.jobs.dataset import DatasetRef


class TrainJob(StrictModel):
    """Train by a recipe: an inverter for ``generator``, on generated images and on real ones when ``dataset`` is given; or a
    generator itself.

    Args:
        recipe: which method, and how it is trained; a name of ``configs/training``, a YAML file, or the values themselves.
        name: of what is made in the store, which methods find an inverter by, and of ``training/<name>``; the recipe's name by
            default, which is its kind unless it has one.
        start: a network of the same kind to start from, by name or URI; None trains from scratch.
        needed: frozen inverters by role, in place of those that the recipe names.
        workers: number of workers that train together (engine ``ray``); each computes its share of every batch.
    """

    store: str
    recipe: AnyRecipe
    name: str | None = None
    generator: str = EMBEDDED
    dataset: DatasetRef | None = None
    start: str | None = None
    needed: Mapping[str, str] = Field(default_factory=dict)
    workers: int = Field(1, ge=1)

    @field_validator("recipe", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return load_recipe(value) if isinstance(value, str) else value

    @property
    def collection_name(self) -> str:
        return self.name or self.recipe.name or self.recipe.kind

    @property
    def roles(self) -> dict[str, str]:
        """Role -> where its inverter is."""
        return {**self.recipe.needed, **self.needed}

    @property
    def places(self) -> Places:
        """Where all that it starts from is."""
        return Places(self.generator, open_store(self.store), self.collection_name, self.start, self.roles)

    @property
    def made_url(self) -> str:
        """Where the trained network is."""
        return f"{open_store(self.store).url}/{self.recipe.makes}/{self.collection_name}"
