"""Everything a file may try: nothing runs, nothing is left behind, the message says what is wrong."""

from __future__ import annotations

import copy
import io
import json
import pickle
import pickletools
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from ganinv.errors import WeightsRefused
from ganinv.generators.files import open_generator
from ganinv.reading.checkpoint import read_checkpoint
from ganinv.reading.limits import MAX_OPCODES
from ganinv.reading.stub import Stub
from tests.reading.pickles import call, repacked, streamed, written, zipped

BAD = {
    "touch_open.pkl": r"loading it would call io\.open",
    "touch_os_system.pkl": r"loading it would call (posix|os)\.system",
    "touch_in_zip.pt": r"loading it would call io\.open",
    "arbitrary_class.pt": r"class somebody\.models\.weird\.OddThing",
    "truncated.pkl": "incomplete",
    "truncated.pt": "incomplete",
    "zero_bytes.pkl": r"empty \(0 bytes\)",
    "zero_bytes.pt": r"empty \(0 bytes\)",
    "quota_page.pkl": "it is a web page, not a checkpoint",
    "nan_weights.pt": r"convs\.1\.conv\.weight holds values that are not finite \(NaN or infinity\)",
    "missing_keys.safetensors": r"missing keys .*convs\.2\.conv\.modulation\.bias.*to_rgbs\.1\.conv\.weight.*to_rgbs\.1\.bias",
}


@pytest.mark.seconds
@pytest.mark.parametrize("name", BAD)
def test_bad_files(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsRefused, match=BAD[name]) as caught:
        open_generator(str(made / "bad" / name))
    assert name in str(caught.value)
    assert not list(tmp_path.iterdir())


def pickle_end(data: bytes, start: int) -> int:
    """Where the pickle ends that begins at ``start``."""
    stream = io.BytesIO(data)
    stream.seek(start)
    for _ in pickletools.genops(stream):
        pass
    return stream.tell()


def refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(WeightsRefused, match=message):
        read_checkpoint(written(tmp_path / "file", data))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


CALLS = [
    ("os", "system", "touch PWNED"),
    ("posix", "system", "touch PWNED"),
    ("nt", "system", "touch PWNED"),
    ("builtins", "eval", "open('PWNED', 'w')"),
    ("builtins", "exec", "open('PWNED', 'w')"),
    ("__builtin__", "eval", "open('PWNED', 'w')"),
    ("builtins", "getattr", "a", "b"),
    ("subprocess", "Popen", "touch PWNED"),
    ("importlib", "import_module", "this"),
    ("runpy", "run_path", "x.py"),
    ("pickle", "loads", b"x"),
    ("operator", "attrgetter", "a"),
    ("shutil", "rmtree", "."),
    ("socket", "create_connection", ("127.0.0.1", 9)),
    ("commands", "getoutput", "touch PWNED"),
    ("ctypes", "CDLL", "x.so"),
    ("code", "interact"),
    ("urllib.request", "urlopen", "http://127.0.0.1:9/"),
]


@pytest.mark.parametrize("case", CALLS, ids=lambda c: f"{c[0]}.{c[1]}")
@pytest.mark.parametrize("inside", ["pickle", "zip", "nested", "stream"])
def test_calls_into_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[Any, ...], inside: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data = call(*case)
    if inside == "zip":
        data = repacked(zipped({"a": torch.ones(1)}), {"data.pkl": data})
    elif inside == "nested":
        data = call("torch.storage", "_load_from_bytes", data)
    elif inside == "stream":
        header = streamed(torch.ones(1))
        data = header[: header.index(b"ctorch._utils") - 2] + data
    refused(tmp_path, data, rf"loading it would call {case[0]}\.{case[1]}")


@pytest.mark.parametrize("name", ["torch.hub.load", "numpy.load", "somebody.evil.run", "pip.main"])
def test_other_calls_are_recorded_not_made(tmp_path: Path, name: str) -> None:
    module, _, function = name.rpartition(".")
    got = read_checkpoint(written(tmp_path / "f", call(module, function, "a", 1)))
    assert isinstance(got, Stub)
    assert (got.cls, got.args) == (name, ("a", 1))


@pytest.mark.parametrize("opcode", [b"i", b"o", b"\x81", b"\x92", b"R", b"b"])
def test_every_way_to_make_an_object_is_guarded(tmp_path: Path, opcode: bytes) -> None:
    text = b"X\x05\x00\x00\x00touch"
    body = {
        b"i": b"(" + text + b"ios\nsystem\n",
        b"o": b"(cos\nsystem\n" + text + b"o",
        b"\x81": b"cos\nsystem\n" + text + b"\x85\x81",
        b"\x92": b"cos\nsystem\n" + text + b"\x85}\x92",
        b"R": b"cos\nsystem\n" + text + b"\x85R",
        b"b": b"cos\nsystem\n" + text + b"b",
    }[opcode]
    refused(tmp_path, b"\x80\x02" + body + b".", r"would call os\.system|a state for GlobalName")


PAGES = [
    (b"<!DOCTYPE html><html><head><title>Sign in</title>", r"web page, not a checkpoint \(titled 'Sign in'\)"),
    (b"\xef\xbb\xbf\n <HTML><body>404", "web page, not a checkpoint"),
    (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code>', "web page, not a checkpoint"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 381673535\n", "Git LFS pointer.*git lfs pull"),
    (b'{"error": "quota"}', "JSON text"),
    (b"\x1f\x8b\x08\x00rest", "a gzip archive; unpack it"),
    (b"BZh9", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "a xz archive"),
    (b"PK\x05\x06" + bytes(18), "an empty zip archive"),
    (b"\x93NUMPY\x01\x00", "a numpy array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff\xe0", "a JPEG image"),
    (b"plain words", "an unknown kind of file"),
    (b"\x80\x09abc", "an unknown kind of file"),
    (b"\x00" * 64, "an unknown kind of file"),
]


@pytest.mark.parametrize(("data", "message"), PAGES)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    refused(tmp_path, data, message)


def test_archives_that_are_no_checkpoint(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(2))
    refused(tmp_path, buffer.getvalue(), "a numpy archive")
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    refused(tmp_path, buffer.getvalue(), "a TorchScript archive")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path, buffer.getvalue(), "a zip archive, but not of torch.save: it has no data.pkl")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("x"))
    refused(tmp_path, buffer.getvalue(), "a tar archive")


@pytest.mark.parametrize("write", [zipped, streamed, pickle.dumps, lambda tree: save(tree)])
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, write: Any) -> None:
    data = write({"a": torch.arange(300.0), "b": torch.ones(2)})
    for cut in range(1, len(data), max(len(data) // 60, 1)):
        with pytest.raises(WeightsRefused):
            read_checkpoint(written(tmp_path / "f", data[:cut]))


def test_the_message_of_a_truncated_file_says_so(tmp_path: Path) -> None:
    refused(tmp_path, zipped({"a": torch.ones(500)})[:-300], "incomplete or damaged")
    refused(tmp_path, streamed({"a": torch.ones(500)})[:-300], "incomplete: it ends at byte")
    refused(tmp_path, save({"a": torch.ones(500)})[:-300], "not a whole safetensors file")
    refused(tmp_path, repacked(zipped({"a": torch.ones(5)}), {"data/0": None}), "its archive has no entry")
    refused(tmp_path, repacked(zipped({"a": torch.ones(5)}), {"data/0": b"123"}), "20 bytes has 3 bytes in the file")


def test_a_stream_whose_list_of_storages_is_none(tmp_path: Path) -> None:
    data, at = streamed(torch.ones(4)), 0
    for _ in range(4):  # magic number, version, system, object: the next pickle is the list
        at = pickle_end(data, at)
    refused(
        tmp_path,
        data[:at] + pickle.dumps(5) + data[pickle_end(data, at) :],
        "what should be the list of tensor storages",
    )


# Bounded memory and time


@pytest.mark.seconds
def test_endless_pickles(tmp_path: Path) -> None:
    refused(tmp_path, b"\x80\x02" + b"N0" * (MAX_OPCODES // 2 + 1) + b"N.", "more than 1000000 steps")


@pytest.mark.seconds
@pytest.mark.parametrize("nest", [b"\x85", b"l", b"]a"])
def test_deep_nesting_neither_crashes_nor_hangs(tmp_path: Path, nest: bytes) -> None:
    deep = {
        b"\x85": b"N" + b"\x85" * 300_000,
        b"l": b"(" * 300_000 + b"l" * 300_000,
        b"]a": b"]" * 300_000 + b"a" * 299_999,
    }
    refused(tmp_path, b"\x80\x02" + deep[nest] + b".", "containers inside containers")
    key = b"\x80\x02}" + deep[nest] + b"Ns."
    refused(tmp_path, key, "with a key of type")


def test_a_billion_laughs(tmp_path: Path) -> None:
    """Lists of the same list, 60 levels: 2^60 nodes for a reader that does not see that they are one."""
    data = b"\x80\x02]q\x00" + b"".join(
        b"]q" + bytes([i + 1]) + b"(h" + bytes([i]) + b"h" + bytes([i]) + b"e" for i in range(60)
    )
    got = read_checkpoint(written(tmp_path / "f", data + b"."))
    assert got[0] is got[1]
    refused_by_generator = written(tmp_path / "g", data + b".")
    with pytest.raises(WeightsRefused, match="no network in it"):
        open_generator(refused_by_generator)


@pytest.mark.seconds
def test_modules_inside_modules_inside_modules(tmp_path: Path) -> None:
    """A module that is its own child, and one whose tree doubles on every level."""

    def module(children: dict[str, Any]) -> torch.nn.Module:
        out = torch.nn.Module()
        out._modules.update(children)
        return out

    own = module({})
    own._modules["a"] = own
    twins = torch.nn.Linear(1, 1)
    for _ in range(30):
        twins = module({"a": twins, "b": twins})  # type: ignore[assignment]
    for tree in (own, {"G_ema": twins}):
        with pytest.raises(WeightsRefused, match="modules inside modules"):
            open_generator(written(tmp_path / "f", pickle.dumps(tree)))


@pytest.mark.parametrize(
    ("pid", "message"),
    [
        (("storage", torch.FloatStorage, "0", "cpu", 2**62), "claims 4611686018427387904 elements"),
        (("storage", torch.FloatStorage, "0", "cpu", -4), "claims -4 elements"),
        (("storage", torch.FloatStorage, "0", "cpu", "4"), "claims '4' elements"),
        (("storage", torch.FloatStorage, "0", "cpu", 2**40), "more than .* bytes, out of proportion"),
        (("storage", torch.FloatStorage, "../../etc", "cpu", 4), "has no entry"),
        (("module", torch.FloatStorage, "0", "cpu", 4), "not a tensor storage"),
        (("storage", list, "0", "cpu", 4), "storage of unknown type"),
    ],
)
def test_storages(tmp_path: Path, pid: tuple[Any, ...], message: str) -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return pid if isinstance(obj, torch.Tensor) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump([torch.ones(4)])
    refused(tmp_path, repacked(zipped(torch.ones(4)), {"data.pkl": buffer.getvalue()}), message)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((0, (5,), (1,)), "reaches beyond its storage"),
        ((2, (3,), (1,)), "reaches beyond its storage"),
        ((0, (2, 2), (4, 1)), "reaches beyond its storage"),
        ((0, (2**30,), (0,)), "repeats a storage"),
        ((0, (2, 2**39), (0, 0)), "repeats a storage"),
        ((-1, (2,), (1,)), "offset holds -1"),
        ((0, (-2,), (1,)), "shape holds -2"),
        ((0, (2,), (-1,)), "stride holds -1"),
        ((0, (2,), ()), "has 0 strides"),
        ((0, (1,) * 40, (1,) * 40), "at most 16 integers"),
        ((0, (True,), (1,)), "shape holds True"),
        ((0, ("2",), (1,)), "shape holds '2'"),
        ((0, (2.0,), (1,)), "shape holds 2.0"),
    ],
)
def test_views_stay_inside_their_storage(tmp_path: Path, args: tuple[Any, ...], message: str) -> None:
    class View:
        def __reduce__(self) -> Any:
            storage = torch.ones(4).untyped_storage()
            typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
            return torch._utils._rebuild_tensor_v2, (typed, *args, False, {})

    refused(tmp_path, pickle.dumps([View()]), message)


def test_a_zip_bomb(tmp_path: Path) -> None:
    bomb = repacked(zipped(torch.zeros(4)), {"data.pkl": b"\x80\x02" + bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    refused(tmp_path, bomb, "out of proportion to the size of the file")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_packed_by_rare_methods(tmp_path: Path, method: int) -> None:
    refused(tmp_path, repacked(zipped(torch.zeros(4)), {}, method), "another method than deflate")


def test_many_views_of_one_storage(tmp_path: Path) -> None:
    """Each would be loaded into memory of its own: a megabyte that becomes a hundred."""
    one = torch.zeros(2**18)
    refused(tmp_path, zipped([one.view(2**18) for _ in range(100)]), "tensors repeat one another")

    make, args, state = np.zeros(2**18, np.float32).__reduce__()

    class Array:
        def __reduce__(self) -> Any:
            return make, args, state

    refused(tmp_path, pickle.dumps([Array() for _ in range(100)], 4), "tensors repeat one another")


@pytest.mark.seconds
def test_calls_that_copy_a_long_list_again_and_again(tmp_path: Path) -> None:
    """Three opcodes and a thousand entries each time; also as arguments of a call that ignores them."""
    long = b"(" + b"N" * 1000 + b"l\x85q\x01" + b"0"
    for name in (b"builtins\nlist", b"collections\nOrderedDict", b"torch._utils\n_rebuild_parameter", b"torch\nSize"):
        refused(
            tmp_path, b"\x80\x02" + long + (b"c" + name + b"\nh\x01R0") * 100_000 + b"N.", "the pickle copies|damaged"
        )
    text = b"X" + struct.pack("<I", 10**6) + b"x" * 10**6 + b"X\x06\x00\x00\x00latin1\x86q\x01" + b"0"
    refused(tmp_path, b"\x80\x02" + text + b"c_codecs\nencode\nh\x01R" * 1000 + b"(l.", "the pickle copies")


def test_one_region_under_many_names(tmp_path: Path) -> None:
    """Entries of a zip that overlap: a file of a megabyte that claims fifty."""
    with zipfile.ZipFile(io.BytesIO(zipped([torch.zeros(2**18) for _ in range(50)]))) as whole:
        pickled = whole.read(next(n for n in whole.namelist() if n.endswith("data.pkl")))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(2**20))
        for i in range(1, 50):
            again = copy.copy(archive.getinfo("archive/data/0"))
            again.filename = f"archive/data/{i}"
            archive.filelist.append(again)
    refused(tmp_path, buffer.getvalue(), "out of proportion")


@pytest.mark.parametrize("code", ["O", "V8", "f4,f4", "(1000000000,)f4", "M8[D]", "S", "<U999999999999"])
def test_arrays_of_other_than_plain_numbers(tmp_path: Path, code: str) -> None:
    refused(tmp_path, call("numpy", "dtype", code, False, True), "only plain numbers")


def test_object_arrays(tmp_path: Path) -> None:
    refused(tmp_path, pickle.dumps(np.array([{}, []], dtype=object)), "only plain numbers")


def test_arrays_whose_bytes_do_not_match(tmp_path: Path) -> None:
    data = pickle.dumps(np.zeros(4, np.float32), 2).replace(b"K\x04\x85", b"K\x05\x85")
    refused(tmp_path, data, r"numpy array of shape \(5,\) and type float32 has 16 bytes")


def test_headers_of_safetensors_that_lie(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}}).encode()
    refused(tmp_path, struct.pack("<Q", len(header)) + header + bytes(8), "not a whole safetensors file")
    refused(tmp_path, struct.pack("<Q", 2**39) + b"{" + bytes(100), "its header claims 549755813888 bytes")


@pytest.mark.parametrize(
    ("entries", "size", "message"),
    [
        ({"a": ("F32", [2], [0, 8]), "b": ("F32", [2], [0, 8])}, 8, "tensor b begins at 0, not 8"),
        ({"a": ("F32", [2], [4, 12])}, 12, "tensor a begins at 4, not 0"),
        ({"a": ("F32", [2], [0, 8])}, 12, "its tensors have 8 bytes, 12 lie in it"),
        ({"a": ("F32", [2], [0, 8])}, 4, "ends 4 bytes too early"),
        ({"a": ("F32", [3], [0, 8])}, 8, "of 12 bytes has 8 bytes"),
        ({"a": ("F32", [2**30] * 200_000, [0, 8])}, 8, "at most 16 integers"),
        ({"a": ("F32", [True, 2], [0, 8])}, 8, "holds True"),
        ({"a": ("F32", [2], [0.0, 8.0])}, 8, "holds 0.0"),
        ({"a": ("F4", [2], [0, 8])}, 8, "KeyError"),
        ({"a": ("F32", [2], "08")}, 8, "place is not a list"),
    ],
)
def test_places_in_safetensors(tmp_path: Path, entries: dict[str, Any], size: int, message: str) -> None:
    header = json.dumps({n: dict(zip(("dtype", "shape", "data_offsets"), e, strict=True)) for n, e in entries.items()})
    refused(tmp_path, struct.pack("<Q", len(header)) + header.encode() + bytes(size), message)


def test_headers_of_safetensors_that_are_none(tmp_path: Path) -> None:
    for header in (
        b"{" + b'"a":[' * 100_000,
        b'{"a": 5}',
        b'{"a": {"dtype": "F32"}}',
        b"{\xff}",
        b'{"a":' + b"1" * 5000 + b"}",
    ):
        refused(tmp_path, struct.pack("<Q", len(header)) + header, "not a whole safetensors file")


def test_hashes_that_collide(tmp_path: Path) -> None:
    """Integers that are equal modulo 2^61 - 1 share a hash; a dictionary of them takes quadratic time."""
    keys = b"".join(b"\x8a\x0d" + ((2**61 - 1) * i).to_bytes(13, "little") + b"N" for i in range(1, 60_000))
    refused(tmp_path, b"\x80\x02}(" + keys + b"u.", "a key of type int")
    memo = b"".join(b"p%d\n" % ((2**61 - 1) * i) for i in range(1, 60_000))
    refused(tmp_path, b"\x80\x02N" + memo + b".", "a place in the memo")


def test_nested_pickles(tmp_path: Path) -> None:
    data = streamed(torch.ones(1))
    for _ in range(6):
        data = call("torch.storage", "_load_from_bytes", data)
    refused(tmp_path, data, "torch.save did not write|pickles inside pickles")


@pytest.mark.parametrize(
    "data", [b"\x80\x02.", b"\x80\x02K", b"\x80\x02(.", b"\x80\x02h\x05.", b"\x80\x02\x85.", b"\x80\x02NNNu."]
)
def test_small_damage(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data, "damaged|incomplete")


def test_what_lies_outside_the_file(tmp_path: Path) -> None:
    refused(tmp_path, b"\x80\x02K\x01Q.", "objects outside the file")
    refused(tmp_path, b"\x80\x05\x97.", "buffers outside the file")
    refused(tmp_path, b"\x80\x02\x82\x01.", "extension codes")
