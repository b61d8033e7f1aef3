from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save

from ganinv.codes.code import Code, Feature, HeadCode, LowRank, Masked
from ganinv.errors import StoreError, WeightsRefused
from ganinv.records import RecordConfig, code_to_table, table_to_code
from ganinv.records.extra_tensors import unflatten
from ganinv.store import Store, open_store
from tests.generators.narrow import HEADS, full_code, narrow_generator, w_plus


def whole_code(batch: int = 3) -> Code:
    """Every field of a code, in every form that it can have."""
    r = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=r)

    def mask(*shape: int) -> torch.Tensor:
        return (0.1 + normal(batch, 1, *shape).abs()).clamp(0, 1)

    return Code(
        w=normal(batch, 4, 8),
        noise={0: normal(batch, 1, 4, 4), 2: normal(1, 1, 8, 8), 3: Masked(normal(batch, 1, 8, 8), mask(1, 1))},
        styles={"convs.1": normal(batch, 6), "torgbs.0": normal(batch, 6)},
        weights={
            "convs.1.weight": normal(batch, 5, 6, 3, 3),
            "convs.2.weight": LowRank(normal(batch, 5, 2), normal(batch, 2, 54)),
            "const": normal(1, 6, 4, 4),
            "convs.2.noise_strength": normal(batch),
        },
        const=Masked(normal(batch, 6, 4, 4), torch.full((batch, 1, 1, 1), 0.5)),
        padding={0: normal(batch, 6, 20), 2: normal(1, 6, 36)},
        style_values={"convs.2": normal(batch, 6), "convs.0": Masked(normal(batch, 6), normal(batch, 6).sigmoid())},
        scales={
            "convs.1.weight": HeadCode(normal(batch, 4), torch.arange(1.0, batch + 1)),
            "convs.0.weight": LowRank(normal(batch, 5, 1), normal(batch, 1, 54)),
        },
        features={
            "act[1]": Feature(film=(normal(batch, 6, 8, 8), normal(batch, 6, 1, 1))),
            "act[2]": Feature(add=normal(batch, 6, 8, 8)),
            "block[2]": Feature(
                add=Masked(normal(batch, 6, 8, 8), mask(8, 8)),
                replace=Masked(normal(batch, 6, 1, 1).expand(-1, -1, 8, 8), mask(1, 1)),
                image=normal(batch, 3, 8, 8),
            ),
        },
    )


def same(a: Any, b: Any, tolerance: float) -> None:
    if isinstance(a, Code):
        for field in fields(Code):
            same(getattr(a, field.name), getattr(b, field.name), 0 if field.name == "w" else tolerance)
    elif is_dataclass(a):
        assert type(a) is type(b)
        same([getattr(a, f.name) for f in fields(a)], [getattr(b, f.name) for f in fields(a)], tolerance)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        same([a[k] for k in sorted(a)], [b[k] for k in sorted(a)], tolerance)
    elif isinstance(a, tuple | list):
        for x, y in zip(a, b, strict=True):
            same(x, y, tolerance)
    elif a is None:
        assert b is None
    else:
        torch.testing.assert_close(b, a.expand_as(b), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("float16", 1e-3)])
def test_a_whole_code_survives_the_store(store: Store, dtype: Literal["float16", "float32"], tolerance: float) -> None:
    code = whole_code()
    table = code_to_table(code, ["x/1", "../../2", "ü 3"], store.latents["tuned"], RecordConfig(dtype=dtype))
    assert table["extras_uri"][1].as_py() == "latents/tuned/extras/..%2F..%2F2.safetensors"
    same(code, table_to_code(table, store), tolerance)
    same(code[[2, 0]], table_to_code(table, store, rows=[2, 0]), tolerance)
    same(code[1], table_to_code(table, store, rows=[1]), tolerance)


def test_repeating_writes_equal_bytes(store: Store) -> None:
    tables = [code_to_table(whole_code(), ["a", "b", "c"], store.latents["same"]) for _ in range(2)]
    assert tables[0].equals(tables[1])


def test_a_code_of_w_alone_has_no_objects(store: Store) -> None:
    code = Code(torch.randn(2, 4, 8))
    table = code_to_table(code, ["a", "b"], store.latents["plain"])
    assert table["extras_uri"].null_count == 2
    same(code, table_to_code(table, store), 0)
    same(code, table_to_code(table.select(["w"]), store), 0)
    assert store.objects.names("latents/plain") == []


def test_rows_with_and_without_offsets_join(store: Store) -> None:
    one = Code(torch.randn(1, 4, 8))
    two = Code(torch.randn(1, 4, 8), styles={"convs.1": torch.ones(1, 6)})
    collection = store.latents["mixed"]
    table = pa.concat_tables([code_to_table(one, ["a"], collection), code_to_table(two, ["b"], collection)])
    back = table_to_code(table, store)
    assert back.styles is not None
    assert back.styles["convs.1"].tolist() == [[0.0] * 6, [1.0] * 6]


def test_rows_that_are_no_one_code(store: Store) -> None:
    one = Code(torch.randn(1, 4, 8))
    one, two = (Code(c.w, noise={0: torch.ones(1, 1, r, r)}) for c, r in ((one, 4), (one, 8)))
    table = pa.concat_tables([code_to_table(c, [i], store.latents["n"]) for c, i in ((one, "a"), (two, "b"))])
    with pytest.raises(StoreError, match="cannot become one code"):
        table_to_code(table, store)
    with pytest.raises(StoreError, match="at least one row"):
        table_to_code(table.slice(0, 0), store)


def test_a_changed_object_is_refused(store: Store) -> None:
    table = code_to_table(whole_code(1), ["a"], store.latents["x"])
    uri = table["extras_uri"][0].as_py()
    data = bytearray(store.objects.read(uri))
    data[-1] ^= 1
    for damaged in (bytes(data), bytes(data[:-4]), b""):
        store.objects.put(uri, damaged)
        with pytest.raises(WeightsRefused, match=r"extras/a\.safetensors is not what its row recorded"):
            table_to_code(table, store)
    store.objects.remove(uri)
    with pytest.raises(StoreError, match=r"a\.safetensors.*no such object"):
        table_to_code(table, store)


@pytest.mark.parametrize("uri", ["../outside", "/etc/passwd", "latents/../../x", "a\\b"])
def test_a_row_cannot_point_outside(store: Store, uri: str) -> None:
    row = code_to_table(whole_code(1), ["a"], store.latents["x"]).to_pylist()[0]
    table = code_to_table(Code(torch.zeros(1, 4, 8)), ["a"], store.latents["x"])
    for name, value in (("extras_uri", uri), ("extras_sha256", row["extras_sha256"]), ("extras_bytes", 1)):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, pa.array([value]))
    with pytest.raises(WeightsRefused, match="not a path inside the store"):
        table_to_code(table, store)


def test_a_foreign_object_is_refused(store: Store) -> None:
    import hashlib

    for data in (b"not safetensors", save({"other.x": torch.zeros(1)}), save({"noise.x": torch.zeros(1)})):
        store.objects.put("latents/f/extras/a.safetensors", data)
        table = pa.table(
            {
                "w": code_to_table(Code(torch.zeros(1, 4, 8)), ["a"], store.latents["f"])["w"],
                "extras_uri": ["latents/f/extras/a.safetensors"],
                "extras_sha256": [hashlib.sha256(data).hexdigest()],
                "extras_bytes": [len(data)],
            }
        )
        with pytest.raises(WeightsRefused, match="not a ganinv extras object"):
            table_to_code(table, store)


def test_numbers_too_large_for_float16_stay(store: Store) -> None:
    code = Code(torch.zeros(1, 4, 8), styles={"convs.0": torch.tensor([[1e6, 1.0]])})
    table = code_to_table(code, ["a"], store.latents["large"])
    same(code, table_to_code(table, store), 0)


@pytest.fixture
def here(tmp_path: Path) -> Store:
    """One kind of store is enough where the kind does not matter."""
    return open_store(str(tmp_path))


def test_every_extra_renders_after_the_store_as_before(here: Store) -> None:
    """A batch that asks for everything, image by image through the store and back into one code."""
    g = narrow_generator(torch.float32)
    code = Code.cat([Code(w=w_plus(g, seed=9)), full_code(g, 2)]).to(torch.float32)
    table = code_to_table(code, ["plain", "a", "b"], here.latents["full"], RecordConfig(dtype="float32"))
    assert table["extras_uri"].null_count == 1
    read = table_to_code(table, here).with_heads(HEADS)
    torch.testing.assert_close(g.synthesize(read), g.synthesize(code), atol=1e-5, rtol=1e-5)
    halved = table_to_code(code_to_table(code, ["p", "a", "b"], here.latents["half"]), here).with_heads(HEADS)
    torch.testing.assert_close(g.synthesize(halved), g.synthesize(code), atol=0.1, rtol=0.05)


def test_corrections_of_a_region_are_stored_without_the_rest(here: Store) -> None:
    """SAM inversion: most of a map is outside its mask, and most images do not use most maps."""
    g = narrow_generator(torch.float32)
    value, mask = torch.randn(3, 8, 32, 32), torch.zeros(3, 1, 32, 32)
    mask[0, :, :4, :4], mask[1] = 1, 1
    w = w_plus(g, 3)
    code = Code(
        w, features={"block[6]": Feature(add=Masked(value, mask)), "block[4]": Feature(add=torch.zeros(3, 8, 16, 16))}
    )
    table = code_to_table(code, ["part", "whole", "none"], here.latents["sam"], RecordConfig(dtype="float32"))
    part, whole, none = table["extras_bytes"].to_pylist()
    assert none is None
    assert part < 0.2 * whole
    read = table_to_code(table, here)
    assert set(read.features) == {"block[6]"}
    torch.testing.assert_close(read.features["block[6]"].add.value[0] * mask[0], value[0] * mask[0], atol=0, rtol=0)
    assert torch.equal(g.synthesize(read), g.synthesize(code))


def test_a_hypernetworks_codes_are_kept_exactly(here: Store) -> None:
    code = HeadCode(torch.randn(1, 4), torch.tensor([5.0]))
    table = code_to_table(Code(torch.zeros(1, 4, 8), scales={"convs.2.weight": code}), ["a"], here.latents["h"])
    read = table_to_code(table, here).scales["convs.2.weight"]
    assert torch.equal(read.code, code.code)
    assert torch.equal(read.passes, code.passes)


@pytest.mark.parametrize(
    "names",
    [
        ["weights.convs.1.weight.left"],
        ["noise.0.value"],
        ["features.act[1].film.scale"],
        ["features.act[1].stretch"],
        ["styles"],
        ["w"],
    ],
)
def test_names_that_are_not_ours_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"are not one value|needs scale and shift|unexpected"):
        unflatten({name: torch.zeros(1, 1) for name in names})


def test_a_name_that_cannot_be_read_back_is_not_written(here: Store) -> None:
    code = Code(torch.zeros(1, 4, 8), styles={"convs.1.mask": torch.ones(1, 4)})
    with pytest.raises(ValueError, match="a name cannot end with one of"):
        code_to_table(code, ["a"], here.latents["bad"])
