"""Segments as rows: 8-bit masks and photo, no pixel kept twice."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code, Segments
from ganinv.errors import WeightsRefused
from ganinv.records import RecordConfig, code_to_table, table_to_code
from ganinv.records.extra_tensors import flatten, unflatten
from ganinv.records.record import decode, encode
from ganinv.store import Store

R = 16


def photo(batch: int = 1, seed: int = 0) -> Tensor:
    """[B, 3, R, R] of 8 bits, as the reader of images gives it."""
    levels = torch.randint(0, 256, (batch, 3, R, R), generator=torch.Generator().manual_seed(seed))
    return levels.float() / 127.5 - 1


def code_of(batch: int = 2, count: int = 3, names: tuple[str, ...] = (), cover: float = 1.0) -> Code:
    r = torch.Generator().manual_seed(1)
    masks = cover * torch.randn(batch, count, 1, R, R, generator=r).softmax(1)
    w = torch.randn(batch, count, 4, 8, generator=r)
    styles = {"convs.1": torch.randn(batch, count, 6, generator=r)}
    background = photo(batch) if cover < 1 else None
    return Code(torch.randn(batch, 4, 8, generator=r), segments=Segments(masks, w, styles, background, names))


@pytest.mark.parametrize("cover", [1.0, 0.7])
def test_segments_survive_the_store(store: Store, cover: float) -> None:
    code = code_of(names=("hair", "skin", "10-a"), cover=cover)
    table = code_to_table(code, ["a", "b"], store.latents["segments"], RecordConfig(dtype="float32"))
    back = table_to_code(table, store)
    assert back.segments.names == code.segments.names
    assert torch.equal(back.w, code.w)
    assert torch.equal(back.segments.w, code.segments.w)
    assert torch.equal(back.segments.styles["convs.1"], code.segments.styles["convs.1"])
    # Half a step of the running sums, each mask being the difference of two.
    torch.testing.assert_close(back.segments.masks, code.segments.masks, atol=1.01 / 255, rtol=0)
    total = back.segments.masks.sum(1)
    torch.testing.assert_close(total, torch.full_like(total, cover), atol=0.51 / 255, rtol=0)
    if cover < 1:
        assert torch.equal(back.segments.background, code.segments.background)
    else:
        assert back.segments.background is None


def test_a_second_trip_changes_nothing(store: Store) -> None:
    once = decode(encode(code_of(1, cover=0.7)))
    again = decode(encode(Code(torch.zeros(1, 4, 8), **once)))
    for name in ("masks", "w", "background"):
        assert torch.equal(getattr(once["segments"], name), getattr(again["segments"], name))


def test_empty_segments_and_the_hidden_photo_are_not_stored() -> None:
    code = code_of(1, names=("hair", "skin", "mouth"), cover=0.5)
    masks = code.segments.masks.clone()
    masks[:, 1] = 0
    masks[:, 0, :, : R // 2] = 1
    segments = unflatten(flatten(replace(code, segments=replace(code.segments, masks=masks))))["segments"]
    assert segments.names == ("hair", "mouth")
    assert torch.equal(segments.w, code.segments.w[:, [0, 2]])
    assert (segments.background[:, :, : R // 2] == -1).all()
    assert torch.equal(segments.background[:, :, R // 2 :], code.segments.background[:, :, R // 2 :])


def test_codes_with_other_segments_and_without_join(store: Store) -> None:
    collection = store.latents["mixed"]
    codes = [Code(torch.randn(1, 4, 8)), code_of(1, 2, ("hair", "skin")), code_of(1, 2, ("skin", "nose"), 0.6)]
    tables = [code_to_table(c, [str(i)], collection) for i, c in enumerate(codes)]
    back = table_to_code(pa.concat_tables(tables), store)
    assert back.segments.names == ("hair", "skin", "nose")
    assert back.segments.present().tolist() == [[True, False, False], [True, True, False], [False, True, True]]
    assert (back.segments.shares()[0, 0] == 1).all()


def test_hard_masks_take_little_room() -> None:
    size = 256
    masks = torch.zeros(1, 2, 1, size, size)
    masks[:, 0, :, : size // 2] = masks[:, 1, :, size // 2 :] = 1
    data = encode(Code(torch.zeros(1, 4, 8), segments=Segments(masks, torch.ones(1, 2, 4, 8))))
    assert data is not None
    assert len(data) < size * size / 20


@pytest.mark.parametrize(
    "change",
    [
        {"segments.0.0.mask": torch.zeros(9, dtype=torch.uint8)},
        {"segments.0.0.mask": torch.zeros(1, 1, R, R)},
        {"segments.0.0.w": None},
        {"segments.0.0.other": torch.zeros(1)},
        {"segments.x": torch.zeros(1)},
        {"segments.background": torch.zeros(9, dtype=torch.uint8)},
        {"segments.0.bad name.w": torch.zeros(1, 4, 8), "segments.0.bad name.mask": "segments.0.0.mask"},
    ],
    ids=str,
)
def test_damage_is_refused(change: dict[str, Tensor | str | None]) -> None:
    tensors: dict[str, Tensor | None] = dict(flatten(code_of(1)))
    for name, value in change.items():
        tensors[name] = tensors[value] if isinstance(value, str) else value
    with pytest.raises(ValueError, match=r"segment|PNG|unexpected|mask"):
        unflatten({name: t for name, t in tensors.items() if t is not None})


def test_a_damaged_object_is_refused_as_such(store: Store) -> None:
    import hashlib

    from safetensors.torch import save

    tensors = flatten(code_of(1))
    tensors["segments.0.0.mask"] = torch.zeros(9, dtype=torch.uint8)
    data = save({name: t.contiguous() for name, t in tensors.items()})
    table = code_to_table(code_of(1), ["a"], store.latents["x"])
    uri = table["extras_uri"][0].as_py()
    store.objects.put(uri, data)
    for name, value in (("extras_sha256", hashlib.sha256(data).hexdigest()), ("extras_bytes", len(data))):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array([value]))
    with pytest.raises(WeightsRefused, match="not a ganinv extras object"):
        table_to_code(table, store)
