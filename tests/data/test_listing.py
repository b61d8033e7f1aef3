"""A listing as columns gives back what was listed, whatever its names are."""

from __future__ import annotations

import pickle
import random

import pytest

from ganinv.data.identity import BETWEEN, identified
from ganinv.data.listing import CHUNK, Listing, Packed
from ganinv.data.source import SourceRef

TABLE, TAR = "s3://b/a#1/t.parquet", "s3://b/a#1/s.tar"


def _row(row: int, name: str) -> SourceRef:
    return SourceRef(
        f"{TABLE}#{row}", "b/a#1/t.parquet", row=row, column="png", key=f"t.parquet{BETWEEN}={name}", version="v"
    )


def _member(name: str, offset: int) -> SourceRef:
    key = f"s.tar{BETWEEN}{name}"
    return SourceRef(f"{TAR}#{name}", "b/a#1/s.tar", offset=offset, length=5, key=key, version="w")


def _listed() -> list[SourceRef]:
    names = [f"p {k:05d} é" for k in range(2 * CHUNK)]
    random.Random(0).shuffle(names)
    cut = SourceRef(TAR, "b/a#1/s.tar", length=9, key="s.tar", version="w", fault="it ends early")
    alone = SourceRef("s3://b/a#1/x.png", "b/a#1/x.png", length=0, key="x.png")
    members = [_member(name, 512 * k) for k, name in enumerate(("1.png", "a#b.png", "#", "7"))]
    return [alone, *(_row(k, name) for k, name in enumerate(names)), *members, cut]


def test_every_source_comes_back_under_its_id() -> None:
    listed = _listed()
    packed = Packed(listed)
    assert list(packed) == listed
    listing = Listing.of(packed)
    assert listing is not None
    expected = dict(sorted(identified(listed).items()))
    assert list(listing.pairs()) == list(expected.items())
    few = pickle.loads(pickle.dumps(listing.first(20)))
    assert {image_id: few[image_id] for image_id in few} == dict(list(expected.items())[:20])
    assert "p 00000" not in listing
    with pytest.raises(KeyError):
        few[max(expected)]


def test_two_images_of_one_name_are_told_apart_elsewhere() -> None:
    assert Listing.of(Packed([_row(0, "a"), _row(1, "b"), _row(2, "a")])) is None
