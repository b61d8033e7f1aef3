"""What an item is given: sizes, a clock, and a place for its lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.stylegan2 import Generator

Size = Literal["small", "large"]
Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True)
class Scale:
    """How much of everything. ``FULL`` is for a GPU, ``TINY`` for a dry run on a processor.

    Args:
        large: resolution of the published shape (config f) with random weights.
        batches: of the generator and of jobs. steps: timed of each job that has steps.
        methods: that ``every`` measures; None is all.
        images: of a data set, where one is needed.
        product: side of the matrices whose product gives the peak. copied: bytes whose copy gives the bandwidth.
    """

    large: int
    batches: tuple[int, ...]
    steps: int
    rounds: int
    images: int
    product: int
    copied: int
    widest: int = 512
    """Most channels of the published shape."""
    pairs: bool = True
    """Stages are timed with few steps and with twice as many. A dry run, whose times mean nothing, takes the larger number."""
    methods: tuple[str, ...] | None = None
    jobs: tuple[str, ...] = ("e4e", "w-projection", "pti-w", "pti")
    """What users run: an encoder, a projection, tuning around both."""
    golden: tuple[str, ...] | None = None
    """Golden cases by name; None is all."""
    fused: tuple[str, ...] = ("float32", "bfloat16")
    """Precisions in which kernels are compiled: that takes half a minute of a processor each."""
    close: tuple[str, ...] = ("e4e", "sfe", "w-projection", "pti-w", "pti")
    """Methods whose distances are compared between precisions, run to their end."""


FULL = Scale(large=1024, batches=(1, 4, 16, 64), steps=6, rounds=3, images=32, product=8192, copied=1 << 30)
TINY = Scale(
    large=32, widest=32, batches=(2,), steps=1, rounds=1, images=2, product=128, copied=1 << 20, pairs=False,
    jobs=("e4e", "w-projection"), methods=("e4e", "w-projection", "psp"),
    golden=("ada_r32_uncond", "ros_r32_narrow"), close=("e4e", "sfe"),
    fused=("bfloat16",),
)  # fmt: skip


class Bench:
    """One item's view of the day."""

    def __init__(self, scale: Scale, lines: Path, shared: Path) -> None:
        self.scale, self.shared = scale, shared
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._lines = lines
        self._peaks: dict[Precision, float] = {}

    def note(self, **line: Any) -> None:
        """Keep a line of results at once: an item that is ended for its time has those that it came to."""
        with self._lines.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print("  " + "  ".join(f"{key} {_word(value)}" for key, value in line.items()), flush=True)

    def attempt(self, about: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]) -> None:
        """A line of what ``measure`` finds; where it fails, of why, and the next one has its turn."""
        try:
            self.note(**about, **measure())
        except torch.OutOfMemoryError:
            self.forget()
            self.note(**about, failed="does not fit into memory")
        except Exception as error:  # one failure costs one line
            first = next(iter(str(error).strip().split("\n")), "")
            self.note(**about, failed=f"{type(error).__name__}: {first[:300]}")

    def seconds(self, run: Callable[[], object], rounds: int | None = None) -> float:
        """Of one call, the best of some rounds after a warm-up: of the wall on a GPU, of the processor without one."""
        run()
        return min(self.once(run) for _ in range(rounds or self.scale.rounds))

    def once(self, run: Callable[[], object]) -> float:
        """Of one call."""
        clock = time.perf_counter if self.device.type == "cuda" else time.process_time
        self.wait()
        started = clock()
        run()
        self.wait()
        return clock() - started

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def forget(self) -> None:
        """Give memory back, and count its peak from here."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_memory(self) -> dict[str, float]:
        """MiB since ``forget``; nothing where nobody counts it."""
        if self.device.type != "cuda":
            return {}
        return {"peak_mib": torch.cuda.max_memory_allocated() / 2**20}

    def peak(self, precision: Precision) -> float:
        """Operations per second that a large matrix product reaches here."""
        if precision not in self._peaks:
            n, dtype = self.scale.product, torch.bfloat16 if precision == "bfloat16" else torch.float32
            a = torch.randn(n, n, device=self.device, dtype=dtype)
            with arithmetic(precision):
                self._peaks[precision] = 2 * n**3 / self.seconds(lambda: a @ a, 4)
        return self._peaks[precision]

    def bandwidth(self) -> float:
        """Bytes per second that a copy on the device reads and writes."""
        a = torch.empty(self.scale.copied // 4, device=self.device)
        b = torch.empty_like(a)
        return 2 * 4 * a.numel() / self.seconds(lambda: b.copy_(a), 4)

    def generator(self, size: Size) -> Generator:
        """The embedded one, or one of the published shape (config f) with random weights and a discriminator."""
        if size == "small":
            return open_generator(EMBEDDED, self.device)
        torch.manual_seed(0)
        g = Generator(published_shape(self.scale.large, self.scale.widest))
        g.discriminator = Discriminator(g.resolution, g.cfg.channels)
        g.name = f"config-f-{g.resolution}"
        g.measure_w(1000)
        return g.to(self.device).eval().requires_grad_(False)


def published_shape(resolution: int, widest: int = 512) -> GeneratorConfig:
    """StyleGAN2's config f at a resolution (Karras et al. 2020); with fewer channels for a dry run."""
    sides = [4 * 2**b for b in range(resolution.bit_length() - 2)]
    return GeneratorConfig(resolution=resolution, channels=tuple(min(widest, 32768 // side) for side in sides))


class arithmetic:
    """Whether products of float32 may round their factors (TF32): PyTorch lets convolutions by default."""

    def __init__(self, precision: Precision) -> None:
        self._wanted = precision == "tf32"

    def __enter__(self) -> None:
        self._before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self._wanted

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._before


def _word(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
