"""The restricted reader: what it rebuilds equals what the ordinary loaders build; the rest is inert."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from ganinv.errors import WeightsRefused
from ganinv.reading.checkpoint import load_tensors, open_checkpoint, read_checkpoint
from ganinv.reading.digest import Digest
from ganinv.reading.source import FileSource
from ganinv.reading.stub import Stub
from tests.reading.pickles import on_gpu, repacked, streamed, written, zipped

CONTAINERS = [("torch zip", zipped), ("torch stream", streamed)]


def equal(a: Any, b: Any) -> bool:
    if isinstance(b, torch.Tensor):
        same = isinstance(a, torch.Tensor) and a.dtype == b.dtype and a.stride() == b.stride()
        return same and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(b, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(b, argparse.Namespace):
        return isinstance(a, Stub) and a.cls == "argparse.Namespace" and a.attributes == vars(b)
    return bool(a == b) and type(a) is type(b)


@pytest.mark.parametrize("name", ["ros_r32_narrow", "ros_r64_narrow", "ros_r32_train_ckpt", "ros_r32_style512_oldzip"])
def test_equals_torch_load(made: Path, name: str) -> None:
    file = made / f"rosinality/{name}.pt"
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert equal(read_checkpoint(str(file)), torch.load(file, weights_only=True))


@pytest.mark.parametrize(("container", "write"), CONTAINERS)
def test_every_dtype_shape_and_view(tmp_path: Path, container: str, write: Any) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tree = {
        **{
            str(d): torch.arange(6).to(d)
            for d in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8)
        },
        "bool": torch.tensor([True, False]),
        "complex": torch.tensor([1 + 2j]),
        "transposed": base.t(),
        "slice": base[1:3, ::2],
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 5),
        "parameter": torch.nn.Parameter(torch.ones(2)).detach(),
    }
    file = written(tmp_path / "w", write(tree))
    with open_checkpoint(file) as checkpoint:
        assert checkpoint.container == container
        assert equal(load_tensors(checkpoint.tree), tree)


@pytest.mark.parametrize(("container", "write"), CONTAINERS)
def test_containers_and_plain_values(tmp_path: Path, container: str, write: Any) -> None:
    tree = {
        "list": [1, -5, 2**70, True, None, 1.5, "é", b"bytes", b"long" * 5000, (), (1, (2, 3))],
        "sets": [{1, 2}, frozenset("ab")],
        "ordered": OrderedDict(a=1),
        "size": torch.zeros(2, 3).shape,
        ("tuple", 1): "key",
    }
    got = read_checkpoint(written(tmp_path / "w", write(tree)))
    assert got == {**tree, "ordered": {"a": 1}, "size": (2, 3)}


def test_tensors_of_a_gpu_open_on_the_cpu(tmp_path: Path) -> None:
    data = on_gpu(zipped({"a": torch.ones(3)}))
    assert torch.equal(read_checkpoint(written(tmp_path / "w", data))["a"], torch.ones(3))


def test_a_module_saved_whole_is_a_stub_with_its_tensors(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 3)
    got = read_checkpoint(written(tmp_path / "w", zipped(module)))
    assert got.cls == "torch.nn.modules.linear.Linear"
    assert torch.equal(got.attributes["_parameters"]["weight"], module.weight)


def test_other_objects_are_inert_stubs(tmp_path: Path) -> None:
    day = datetime.date(2020, 1, 2)
    tree = {"args": argparse.Namespace(lr=0.1, out=Path("a/b")), "day": day, "device": torch.device("cuda", 1)}
    got = read_checkpoint(written(tmp_path / "w", zipped(tree)))
    assert got["args"].attributes["lr"] == 0.1
    assert got["args"].attributes["out"].args == ("a", "b")
    assert got["day"].cls == "datetime.date"
    assert got["device"].args == ("cuda", 1)


@pytest.mark.parametrize("protocol", range(6))
def test_bare_pickles_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    """Tensors inside are torch streams of their own; numpy arrays, numbers and dtypes in both byte orders."""
    tree = {
        "tensor": torch.arange(6.0).reshape(2, 3),
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "text": np.array(["a", "bc"]),
        "long": np.arange(5000.0),
        "number": np.float32(1.5),
        "plain": [1, -1, 2.5, "text", None, True, False, 2**40, (1, 2, 3, 4), {"k": "v"}],
    }
    got = read_checkpoint(written(tmp_path / "w", pickle.dumps(tree, protocol)))
    assert got.pop("number") == tree.pop("number")
    assert equal(got, tree)


def test_big_endian_arrays_arrive_in_native_order(tmp_path: Path) -> None:
    array = np.arange(4, dtype=">f4")
    got = read_checkpoint(written(tmp_path / "w", pickle.dumps(array)))
    assert got.dtype == np.dtype("<f4")
    assert np.array_equal(got, array)


def test_tensors_of_a_big_endian_machine(tmp_path: Path) -> None:
    data = zipped({"a": torch.arange(3, dtype=torch.int32), "b": torch.tensor([1 + 2j])})
    swapped = {"byteorder": b"big", "data/0": np.arange(3, dtype=">i4").tobytes()}
    swapped["data/1"] = np.array([1 + 2j], dtype=">c8").tobytes()
    got = read_checkpoint(written(tmp_path / "w", repacked(data, swapped)))
    assert got["a"].tolist() == [0, 1, 2]
    assert got["b"].tolist() == [1 + 2j]


def test_an_archive_packed_again_with_compression(tmp_path: Path) -> None:
    data = repacked(zipped({"a": torch.randn(500)}), {}, zipfile.ZIP_DEFLATED)
    assert read_checkpoint(written(tmp_path / "w", data))["a"].shape == (500,)


def test_safetensors(tmp_path: Path) -> None:
    tree = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2, dtype=torch.bfloat16)}
    file = written(tmp_path / "anything.pkl", save(tree))
    assert open_checkpoint(file).container == "safetensors"
    assert equal(read_checkpoint(file), tree)


def test_what_is_shared_stays_one_object(tmp_path: Path) -> None:
    tensor = torch.ones(3)
    got = read_checkpoint(written(tmp_path / "w", zipped({"a": tensor, "b": tensor, "c": tensor[1:]})))
    assert got["a"].tolist() == got["b"].tolist() == [1, 1, 1]
    assert got["c"].tolist() == [1, 1]


def test_a_list_that_holds_itself(tmp_path: Path) -> None:
    cycle: list[Any] = [1]
    cycle.append(cycle)
    got = read_checkpoint(written(tmp_path / "w", pickle.dumps(cycle)))
    assert got[1] is got


def test_memory_and_file_are_read_alike(tmp_path: Path) -> None:
    import fsspec

    for name, data in {"z": zipped({"a": torch.ones(2)}), "s": save({"a": torch.ones(2)})}.items():
        fsspec.filesystem("memory").pipe_file(f"/reading/{name}", data)
        assert read_checkpoint(f"memory://reading/{name}")["a"].tolist() == [1, 1]


def test_the_hash_is_checked_and_reported(tmp_path: Path) -> None:
    data = zipped({"a": torch.ones(2)})
    file, digest = written(tmp_path / "w", data), hashlib.sha256(data).hexdigest()
    assert open_checkpoint(file).sha256 == digest
    assert read_checkpoint(file, sha256=digest.upper())["a"].tolist() == [1, 1]
    with pytest.raises(WeightsRefused, match=rf"its sha256 is {digest}, expected 00"):
        read_checkpoint(file, sha256="0" * 64)


def test_tensors_are_read_when_they_are_wanted(tmp_path: Path) -> None:
    """Opening a large file does not read its tensors: their data may even be wrong."""
    file = written(tmp_path / "w", zipped({"a": torch.ones(1000, 1000)}))
    with open_checkpoint(file) as checkpoint:
        assert checkpoint.tree["a"].shape == (1000, 1000)
        assert checkpoint.tree["a"].dtype == torch.float32
        assert checkpoint.tree["a"].load().sum() == 1e6


LAYOUTS = {
    "as it is": lambda shape: torch.zeros(shape),
    "channels last": lambda shape: torch.zeros(shape).to(memory_format=torch.channels_last),
    "another type": lambda shape: torch.zeros(shape, dtype=torch.float64),
    "without dimensions of one": lambda shape: torch.zeros(shape[1:]) if shape[0] == 1 else torch.zeros(1, *shape),
    "transposed": lambda shape: torch.zeros(shape[::-1]).permute(3, 2, 1, 0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (70, 513, 3, 3)])  # the second is larger than the buffer
def test_reading_into_a_place(tmp_path: Path, layout: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape).to(dtype)
    target = LAYOUTS[layout](shape)
    with open_checkpoint(written(tmp_path / "w", zipped({"a": tensor}))) as checkpoint:
        stored = checkpoint.tree["a"]
        assert stored.reads_into(target)
        stored.read_into(target)
    assert torch.equal(target.reshape(shape), tensor.to(target.dtype))


def test_reading_into_a_place_from_a_big_endian_machine(tmp_path: Path) -> None:
    swapped = {"byteorder": b"big", "data/0": np.arange(6, dtype=">f4").tobytes()}
    target = torch.zeros(2, 3)
    with open_checkpoint(written(tmp_path / "w", repacked(zipped({"a": torch.ones(2, 3)}), swapped))) as checkpoint:
        checkpoint.tree["a"].read_into(target)
    assert target.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_what_is_not_read_into_a_place(tmp_path: Path) -> None:
    tree = {"rows": torch.ones(4, 6).t(), "integers": torch.ones(6, 4, dtype=torch.int32), "more": torch.ones(6, 5)}
    with open_checkpoint(written(tmp_path / "w", zipped(tree))) as checkpoint:
        assert not any(stored.reads_into(torch.zeros(6, 4)) for stored in checkpoint.tree.values())


def test_parts_of_an_array(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 2000, dtype=np.float64).reshape(2, 3, 2000)
    with open_checkpoint(
        written(tmp_path / "w", pickle.dumps({"a": array, "b": array[:, :, :4].copy()}))
    ) as checkpoint:
        for i in range(2):
            for j in range(3):
                assert np.array_equal(checkpoint.tree["a"].at(i, j).load(), array[i, j])
                assert np.array_equal(checkpoint.tree["b"].at(i, j).load(), array[i, j, :4])


def test_the_hash_is_that_of_what_is_read(tmp_path: Path) -> None:
    """Not of a file that has taken its place under the name since."""
    file, other = tmp_path / "w", tmp_path / "other"
    source = FileSource(written(file, zipped({"a": torch.ones(2)})))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    written(other, zipped({"a": torch.zeros(3)}))
    other.replace(file)
    assert Digest(source).result() == digest
    source.close()
