from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save

from ganinv.code import Code, LowRank
from ganinv.errors import StoreError, WeightsRefused
from ganinv.store import Store, code_to_table, table_to_code


def whole_code(batch: int = 3) -> Code:
    r = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=r)

    return Code(
        w=normal(batch, 4, 8),
        noise={0: normal(batch, 1, 4, 4), 2: normal(1, 1, 8, 8)},
        styles={"convs.1": normal(batch, 6), "torgbs.0": normal(batch, 6)},
        weights={
            "convs.1.weight": normal(batch, 5, 6, 3, 3),
            "convs.2.weight": LowRank(normal(batch, 5, 2), normal(batch, 2, 54)),
        },
    )


def same(a: Any, b: Any, tolerance: float) -> None:
    if isinstance(a, Code):
        for part in ("w", "noise", "styles", "weights"):
            same(getattr(a, part), getattr(b, part), 0 if part == "w" else tolerance)
    elif isinstance(a, LowRank):
        same((a.left, a.right), (b.left, b.right), tolerance)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        same(list(a.values()), list(b.values()), tolerance)
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
    table = code_to_table(code, ["x/1", "../../2", "ü 3"], store.latents["tuned"], dtype=dtype)
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
    two = Code(torch.randn(1, 4, 8), noise={0: torch.ones(1, 1, 4, 4)})
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
