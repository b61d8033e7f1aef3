"""Generators that their makers publish, by name: ``configs/catalogue.yaml`` says where each is and under which licence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ganinv.config import StrictModel, config_file, load_yaml, validate
from ganinv.errors import ConfigError, did_you_mean

_SHA256 = r"^[0-9a-f]{64}$"


class Licence(StrictModel):
    """The licence of some weights. ``summary``: one sentence. ``source``: where the maker publishes them."""

    name: str
    summary: str
    url: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.name}. {self.summary} {self.url}"


class Listed(StrictModel):
    """One entry of the file; ``sha256`` is None until known."""

    url: str
    licence: str
    resolution: int
    family: Literal["stylegan2"] = "stylegan2"
    sha256: str | None = Field(None, pattern=_SHA256)
    notes: str = ""


class CatalogueFile(StrictModel):
    """The whole file."""

    licences: dict[str, Licence]
    generators: dict[str, Listed]

    @model_validator(mode="after")
    def _check(self) -> CatalogueFile:
        for name, entry in self.generators.items():
            if entry.licence not in self.licences:
                raise ValueError(f"{name}: licence {entry.licence!r} is none of {', '.join(self.licences)}")
            if not name.replace("-", "").isalnum():
                raise ValueError(f"{name!r} cannot be a name: letters, digits and '-' only, so that it is not a path")
        return self


@dataclass(frozen=True)
class PublishedGenerator:
    """A published generator.

    Attributes:
        resolution, family: those that the file must have.
        sha256: the hash that the file must have; None if it is not known.
    """

    name: str
    url: str
    licence: Licence
    resolution: int
    family: str
    sha256: str | None
    notes: str


def load_catalogue(path: str | Path | None = None) -> dict[str, PublishedGenerator]:
    """Name -> entry, of the shipped catalogue or of another YAML file of its form.

    Raises:
        ConfigError: the file cannot be read or is not a catalogue.
    """
    file = Path(path) if path else config_file("catalogue.yaml")
    listed = validate(CatalogueFile, load_yaml(file), str(file))
    return {
        name: PublishedGenerator(name, **(item.model_dump() | {"licence": listed.licences[item.licence]}))
        for name, item in listed.generators.items()
    }


@dataclass(frozen=True)
class Source:
    """Requested weights. ``entry``: their entry in the catalogue, if they were requested by its name."""

    url: str
    sha256: str | None = None
    entry: PublishedGenerator | None = None


def find_source(asked: str, *, sha256: str | None = None, catalogue: str | Path | None = None) -> Source:
    """A name of the catalogue, or anything else as it is: a path, a URL, the name of an embedded generator.

    Args:
        sha256: the hash that the file must have; overrides the catalogue's.

    Raises:
        ConfigError: ``sha256`` is not a sha256, or the catalogue cannot be read.
    """
    if sha256 is not None and not re.fullmatch(_SHA256, sha256.lower()):
        raise ConfigError(f"expected a sha256 of 64 hexadecimal digits, got {sha256!r:.80}")
    sha256 = sha256.lower() if sha256 else None
    entry = load_catalogue(catalogue).get(asked)
    return Source(asked, sha256) if entry is None else Source(entry.url, sha256 or entry.sha256, entry)


def catalogue_hint(asked: str) -> str:
    """A hint for an error about missing weights; "" if the catalogue has nothing similar."""
    names = sorted(load_catalogue())
    if asked in names:
        return f". The catalogue has one of this name; bring it to a store with: ganinv import {asked}"
    near = did_you_mean(asked, names)
    return f". The catalogue has one of nearly this name{near}" if near else ""
