"""The device itself: what its matrix products and copies reach, which is what everything else is a share of."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.gpu_day.bench import Bench, Precision
from ganinv.generators.fast import triton_is_there


def measure(bench: Bench) -> None:
    """Name, libraries, peaks."""
    about: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda, "triton": triton_is_there()}
    if bench.device.type == "cuda":
        found = torch.cuda.get_device_properties(0)
        about |= {
            "device": found.name,
            "memory_mib": found.total_memory / 2**20,
            "processors": found.multi_processor_count,
        }
    else:
        about |= {"device": "cpu", "threads": torch.get_num_threads()}
    bench.note(**about)
    precisions: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
    for precision in precisions:
        bench.attempt({"what": "product", "precision": precision}, partial(_product, bench, precision))
    bench.attempt({"what": "copy"}, lambda: {"gb_s": bench.bandwidth() / 1e9})


def _product(bench: Bench, precision: Precision) -> dict[str, float]:
    return {"tflop_s": bench.peak(precision) / 1e12}


def transfers(bench: Bench) -> None:
    """From host to device: plain memory, pinned memory, and pinned memory while the device computes."""
    from ganinv.transfer import Sender

    count = bench.scale.copied // 16
    plain = torch.empty(count)
    gb = 4 * count / 1e9
    bench.attempt({"what": "plain memory"}, lambda: {"gb_s": gb / bench.seconds(lambda: plain.to(bench.device))})
    if bench.device.type == "cuda":
        pinned = plain.pin_memory()
        there = {"gb_s": gb / bench.seconds(lambda: pinned.to(bench.device, non_blocking=True))}
        bench.note(what="pinned memory", **there)
    sender, n = Sender(bench.device), bench.scale.product
    a = torch.randn(n, n, device=bench.device)

    def both() -> None:
        sent = sender.send(plain)
        a @ a
        sent.arrived()

    alone = bench.seconds(lambda: a @ a)
    copied = bench.seconds(lambda: sender.send(plain).arrived())
    together = bench.seconds(both)
    bench.note(what="beside a product", product_s=alone, copy_s=copied, together_s=together)
