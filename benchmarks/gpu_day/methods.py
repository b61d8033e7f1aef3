"""Methods: images per second of every one, of the jobs of inversion by batch size and path, and how many fit into memory.

Steps are all alike. A stage is timed with a few of them and with twice as many; what the first ones cost once (a recording, a
target's features) is then known, and the rest is multiplied. No method is run to its end, and errors here mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_day.bench import Bench, Precision, Size, arithmetic
from benchmarks.gpu_day.untrained import opener
from ganinv.codes.code import Code
from ganinv.config import config_names, validate
from ganinv.generators.fast import Mode, fast_path
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.choosing import chosen
from ganinv.stages.method import AnyStage, Method, MethodConfig, method_config, open_method
from ganinv.target import Target


def every(bench: Bench, size: Size, mode: Mode, precision: Precision) -> None:
    """All methods of ``configs/methods``, at the batch size that they have by themselves."""
    with _set(mode, precision):
        g = bench.generator(size)
        open_one = opener(g)
        for name in bench.scale.methods or config_names("methods"):
            about = {"generator": g.name, "method": name, "precision": precision, "mode": mode}
            bench.attempt(about, partial(_rate_of, bench, g, name, open_one, None, mode, precision))


def jobs(bench: Bench, size: Size, mode: Mode, precision: Precision) -> None:
    """The scale's jobs by batch size. Where a path cannot be had the line says so, and is of the plain one."""
    with _set(mode, precision):
        g = bench.generator(size)
        open_one = opener(g)
        for name in bench.scale.jobs:
            for batch in bench.scale.batches:
                about = {"generator": g.name, "method": name, "precision": precision, "mode": mode, "batch": batch}
                bench.attempt(
                    about,
                    partial(_rate_of, bench, g, name, open_one, batch, mode, precision),
                )


def memory(bench: Bench, size: Size, precision: Precision) -> None:
    """How many images of ``pti`` a step of twice as many takes, until they do not fit."""
    with _set("off", precision):
        g = bench.generator(size)
        method = _method("pti", g, opener(g), precision)
        for batch in (bench.scale.batches[-1] * 2**k for k in range(4 if bench.device.type == "cuda" else 1)):
            about = {"generator": g.name, "method": "pti", "precision": precision, "batch": batch}
            bench.attempt(about, partial(_rate, bench, g, method, batch, "off", precision))


@contextmanager
def _set(mode: Mode, precision: Precision) -> Iterator[None]:
    before = fast_path()
    fast_path(mode)
    try:
        with arithmetic(precision):
            yield
    finally:
        fast_path(before)


def _method(name: str, g: Generator, open_one: Any, precision: Precision) -> Method:
    plain = method_config(name).model_dump(mode="json")
    reduced = {"precision": "bfloat16" if precision == "bfloat16" else "float32"}
    cfg = validate(MethodConfig, {**chosen(plain, g), **reduced}, f"method {name}")
    return open_method(cfg, g, open_inverter=open_one)


def _rate_of(
    bench: Bench, g: Generator, name: str, open_one: Any, batch: int | None, mode: Mode, precision: Precision
) -> dict[str, Any]:
    return _rate(bench, g, _method(name, g, open_one, precision), batch, mode, precision)


def _rate(
    bench: Bench, g: Generator, method: Method, batch: int | None, mode: Mode, precision: Precision
) -> dict[str, Any]:
    images = batch or min(method.cfg.lanes, max(bench.scale.batches))
    method.context.lanes, method.context.grow = images, False
    with torch.no_grad():
        z = torch.randn(images, g.z_dim, generator=torch.Generator().manual_seed(1)).to(g.device)
        target = _seen_by(method, Target(g.synthesize(Code(w=g.map_all(z))).clamp(-1, 1)))
    bench.forget()
    code: Code | None = None
    seconds = flop = 0.0
    for stage in method.cfg.stages:
        took, counted, code = _stage(bench, stage, method, target, code)
        seconds, flop = seconds + took, flop + counted
    given_up = {} if fast_path() == mode else {"given_up": mode}
    per_image = seconds / images
    return {
        "images": images, "images_s": 1 / per_image, "tflop": flop / images / 1e12,
        "tflop_s": flop / seconds / 1e12, "of_peak": flop / seconds / bench.peak(precision),
        **bench.peak_memory(), **given_up,
    }  # fmt: skip


def _seen_by(method: Method, target: Target) -> Target:
    side = method.photo_side
    if side is None:
        return target
    photos = torch.nn.functional.interpolate(target.images, size=(side, side), mode="bilinear", align_corners=False)
    return replace(target, photos=photos)


def _stage(
    bench: Bench, stage: AnyStage, method: Method, target: Target, code: Code | None
) -> tuple[float, float, Code]:
    """Seconds and operations of a whole stage, from some of its steps, and the code after these."""
    full = steps_of(stage)
    multiples = (1, 2) if bench.scale.pairs else (2,)
    some = [stage] if full is None else [with_steps(stage, min(full, n * bench.scale.steps)) for n in multiples]
    seconds, counted, made = list[float](), list[float](), code
    for each in some:

        def run(each: AnyStage = each) -> None:
            nonlocal made
            with method.context.computing_in(method.precision):
                made = each(target, code, method.context).code

        before = fast_path()
        fast_path("off")  # what is recorded is not counted
        with FlopCounterMode(display=False) as counter:
            run()
        fast_path(before)
        counted.append(float(counter.get_total_flops()))
        seconds.append(bench.seconds(run, 1))
    assert made is not None
    done = [steps_of(each) or 1 for each in some]
    return extended(done, seconds, full), extended(done, counted, full), made


def extended(done: Sequence[int], values: Sequence[float], full: int | None) -> float:
    """What ``full`` steps come to, when ``done`` steps came to ``values``."""
    if full is None or done[-1] == done[0]:
        return values[-1] * ((full or done[-1]) / done[-1])
    per_step = (values[-1] - values[0]) / (done[-1] - done[0])
    return values[-1] + max(per_step, 0.0) * (full - done[-1])


def steps_of(stage: AnyStage) -> int | None:
    """Of a stage that descends; None of one that does not."""
    if not stage.iterative:
        return None
    inner = getattr(stage, "optimize", None)
    return int(inner.steps if inner is not None else stage.steps)  # type: ignore[union-attr,arg-type]


def with_steps(stage: AnyStage, steps: int) -> AnyStage:
    """The stage with another number of steps."""
    inner = getattr(stage, "optimize", None)
    change = {"optimize": inner.model_copy(update={"steps": steps})} if inner is not None else {"steps": steps}
    return stage.model_copy(update=change)
