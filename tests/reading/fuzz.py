"""Fuzzing of the reader: mutated real files and random pickle programs, in a process that may do nothing else.

Run by ``test_fuzz.py`` for some seconds and by ``make fuzz`` for minutes:

    python -m tests.reading.fuzz --seconds 300 [--shared FOLDER]

While a file is read an audit hook watches this process: opening a file to write, starting a program, a socket, compiling or
importing anything ends it at once. So does any exception that is not WeightsRefused, and any file that takes too long.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import io
import os
import pickle
import resource
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from ganinv.codes.code import Code
from ganinv.errors import GaninvError
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.reading.checkpoint import Checkpoint, load_tensors
from ganinv.reading.checkpoint import _load as load_source
from ganinv.reading.digest import Digest
from ganinv.reading.source import MemorySource

SLOWEST = 20.0  # processor seconds for one file; the largest seeds take one tenth of a second
MOST_MEMORY = 2 * 2**30  # beyond what the process has when it starts
_FORBIDDEN = (
    "os.", "subprocess.", "socket.", "shutil.", "exec", "compile", "import", "ctypes.", "pty.", "tempfile.", "urllib.",
    "marshal.", "pickle.", "winreg.", "_winapi.", "sqlite3.", "mmap.", "builtins.input", "code.", "fcntl.", "signal.",
)  # fmt: skip
_HARMLESS = ("os.listdir", "os.scandir", "os.putenv", "os.unsetenv")


@dataclass(frozen=True)
class Case:
    """A file to read; shown by its name and, where it is short, its bytes."""

    name: str
    data: bytes

    def __repr__(self) -> str:
        return f"{self.name}, {len(self.data)} bytes" + (f": {self.data!r}" if len(self.data) < 3000 else "")


class Guard:
    """Watches what the process does while ``armed``."""

    def __init__(self) -> None:
        self.armed = False
        self.seen = ""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        writing = event == "open" and (_writes(args[1]) or (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writing or (event.startswith(_FORBIDDEN) and event not in _HARMLESS):
            self.seen = f"{event} {str(args)[:200]}"
            self.armed = False
            raise AssertionError(f"a file made the process do this: {self.seen}")


def _writes(mode: Any) -> bool:
    return isinstance(mode, str) and any(letter in mode for letter in "wax+")


def seeds(shared: Path | None) -> list[tuple[str, bytes]]:
    """Small files of every container and layout, and real ones where they are at hand."""
    torch.manual_seed(0)
    g = Generator(GeneratorConfig(resolution=8, channels=(2, 2), z_dim=2, w_dim=2, mapping_layers=1))
    out = []
    for layout in ("nvidia", "rosinality"):
        save_generator(g, f"memory://fuzz/{layout}", layout)  # type: ignore[arg-type]
        import fsspec

        out.append((layout, fsspec.filesystem("memory").cat_file(f"/fuzz/{layout}")))
    state = torch.load(io.BytesIO(out[1][1]), weights_only=True)
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    out += [("stream", buffer.getvalue()), ("safetensors", save(state["g_ema"]))]
    tree = {
        "tensor": torch.ones(3),
        "array": np.ones((2, 3)),
        "scalar": np.float32(1),
        "args": argparse.Namespace(a=1),
        "s": {1},
    }
    out += [(f"pickle {p}", pickle.dumps({**tree, "state": state}, p)) for p in range(6)]
    for file in sorted((shared / "golden").glob("*/*.p[kt]*")) if shared is not None else []:
        if file.stat().st_size < 2**21:
            out.append((file.name, file.read_bytes()))
    return out


_NAMES = (
    "os system", "builtins eval", "builtins set", "builtins getattr", "torch._utils _rebuild_tensor_v2", "torch FloatStorage",
    "torch._utils _rebuild_parameter", "torch.storage _load_from_bytes", "collections OrderedDict", "numpy dtype",
    "numpy.core.multiarray _reconstruct", "numpy.core.multiarray scalar", "numpy ndarray", "_codecs encode",
    "torch_utils.persistence _reconstruct_persistent_obj", "dnnlib.tflib.network Network", "copyreg _reconstructor",
)  # fmt: skip
_OPCODES = tuple(bytes([code]) for code in (*b"(012.NRQabdeilostu}])", *range(0x80, 0x99)))
_VALUES = (
    b"K\x05", b"M\x00\x10", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"\x8b\x04\x00\x00\x00abcd", b"I1\n",
    b"L9\n", b"F1e999\n", b"G\x7f\xf0" + bytes(6), b"S'a'\n", b"Va\n", b"X\x02\x00\x00\x00id", b"X\xff\xff\xff\x7f",
    b"X\x02\x00\x00\x00f4", b"C\x01a", b"B\x00\x01\x00\x00", b"\x8e" + b"\xff" * 8, b"\x95" + bytes(8), b"h\x00", b"q\x00",
    b"j\xff\xff\xff\xff", b"r\xff\xff\xff\xff", b"P0\n", b"\xff\xff\xff\xff", bytes(4),
    b"X\x07\x00\x00\x00storage", b"X\x01\x00\x00\x000", b"X\x03\x00\x00\x00cpu",
)  # fmt: skip
FRAGMENTS = [*(b"c" + name.replace(" ", "\n").encode() + b"\n" for name in _NAMES), *_OPCODES, *_VALUES]


@st.composite
def programs(draw: st.DrawFn) -> Case:
    """Random opcodes, as a bare pickle or as the pickle of a torch archive."""
    body = (
        b"\x80\x02" + b"".join(draw(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=60))) + b"."
    )
    if draw(st.booleans()):
        return Case("program", body)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/data/0", bytes(16))
    return Case("program in a zip", buffer.getvalue())


@st.composite
def mutants(draw: st.DrawFn, files: list[tuple[str, bytes]]) -> Case:
    """A real file with a few changes, more often where its structure is than in its weights."""
    name, data = draw(st.sampled_from(files))
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        size = max(len(out), 1)
        near = st.integers(0, min(size, 4000) - 1)
        at = draw(near | near.map(lambda n, size=size: size - 1 - n) | st.integers(0, size - 1))
        kind = draw(st.sampled_from(["flip", "byte", "insert", "delete", "repeat", "cut", "length"]))
        if kind == "flip" and out:
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte" and out:
            out[at] = draw(st.integers(0, 255))
        elif kind == "insert":
            out[at:at] = draw(st.sampled_from(FRAGMENTS) | st.binary(min_size=1, max_size=16))
        elif kind == "delete":
            del out[at : at + draw(st.integers(1, 64))]
        elif kind == "repeat":
            out[at:at] = out[at : at + draw(st.integers(1, 256))] * draw(st.integers(1, 8))
        elif kind == "cut":
            del out[at:]
        elif kind == "length":
            out[at : at + 4] = draw(
                st.sampled_from([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", bytes(4)])
            )
    return Case(f"mutant of {name}", bytes(out))


def read(data: bytes) -> None:
    """Everything a caller may do with the file, from memory: the reader, all its tensors, and the generator."""
    source = MemorySource(data)
    with Checkpoint("fuzz", source, *load_source(source), Digest(source)) as checkpoint:
        load_tensors(checkpoint.tree)


def generate(data: bytes) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/fuzz/case", data)
    g = open_generator("memory://fuzz/case")
    if g.resolution <= 64:
        g.synthesize(Code(w=torch.zeros(1, g.num_ws, g.w_dim)))


def run(seconds: float, shared: Path | None, seed: int) -> int:
    """Number of files read; exits on the first finding."""
    files = seeds(shared)
    # Lazy imports of torch and of the codecs that zip and pickle name happen here, before the guard looks.
    for codec in ("cp437", "latin1", "ascii", "utf-8", "raw-unicode-escape"):
        codecs.lookup(codec)
    for _, data in files:
        for use in (read, generate):
            with contextlib.suppress(GaninvError):
                use(data)
    guard, count, end = Guard(), 0, time.monotonic() + seconds
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def check(case: Case) -> None:
        nonlocal count
        if time.monotonic() > end:
            return
        for use in (read, generate):
            start = time.process_time()
            guard.armed = True
            try:
                use(case.data)
            except GaninvError:
                pass
            finally:
                guard.armed = False
            assert not guard.seen, guard.seen
            took = time.process_time() - start
            assert took < SLOWEST, f"{case} took {took:.1f} seconds"
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        assert grown < MOST_MEMORY, f"{case} took {grown >> 20} MiB"
        count += 1

    strategy = mutants(files) | programs()
    while time.monotonic() < end:
        test = given(strategy)(check)
        test = settings(
            max_examples=200,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(test)
        hypothesis.seed(seed)(test)()
        seed += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--shared", type=Path, default=None, help="folder with golden data, for more and larger seeds")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    count = run(args.seconds, args.shared if args.shared and args.shared.is_dir() else None, args.seed)
    print(f"{count} files read, nothing found")


if __name__ == "__main__":
    main()
