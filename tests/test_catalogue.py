"""The catalogue of published generators."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ganinv.errors import ConfigError
from ganinv.generators.catalogue import find_source, load_catalogue
from ganinv.generators.files import ASSETS

ENTRY = {"url": "https://host/x.pkl", "licence": "free", "resolution": 64}
LICENCES = {"free": {"name": "CC0", "summary": "Do as you like.", "url": "https://host/cc0"}}


@pytest.mark.parametrize("entry", load_catalogue().values(), ids=lambda entry: entry.name)
def test_every_entry_is_whole(entry) -> None:  # type: ignore[no-untyped-def]
    assert entry.url.startswith("https://")
    assert str(entry.resolution) in entry.name
    assert "ommercial" in str(entry.licence)
    assert entry.notes.endswith(".")
    assert not (ASSETS / entry.name).exists()  # an embedded generator of this name would hide it, or be hidden


def test_no_file_is_listed_twice() -> None:
    urls = [entry.url for entry in load_catalogue().values()]
    assert len(set(urls)) == len(urls)


def test_a_name_and_anything_else() -> None:
    known = find_source("ffhq-1024")
    assert known.url.endswith("/ffhq.pkl")
    assert known.entry is not None
    assert (known.entry.resolution, known.sha256) == (1024, None)
    assert find_source("ffhq-1024", sha256="AB" * 32).sha256 == "ab" * 32
    assert find_source("./ffhq-1024").entry is None
    assert find_source("https://host/g.pkl").url == "https://host/g.pkl"


def test_a_hash_that_is_none() -> None:
    with pytest.raises(ConfigError, match="expected a sha256 of 64 hexadecimal digits, got '123'"):
        find_source("x.pkl", sha256="123")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"licence": "mine"}, "licence 'mine' is none of free"),
        ({"sha256": "12"}, "sha256"),
        ({"resolutoin": 3}, "did you mean 'resolution'"),
        ({"family": "stylegan3"}, "family"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, change: dict[str, object], words: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"licences": LICENCES, "generators": {"x": ENTRY | change}}))
    with pytest.raises(ConfigError, match=words):
        load_catalogue(file)


def test_a_name_must_be_no_path(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"licences": LICENCES, "generators": {"a/b": ENTRY}}))
    with pytest.raises(ConfigError, match="'a/b' cannot be a name"):
        load_catalogue(file)
