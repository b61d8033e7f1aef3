"""Numbers on the device: recorded outputs of the original implementations, and whole methods in reduced precision.

Golden cases are those of ``$GANINV_SHARED/golden``; every one in the format of its README is taken, whatever its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_day.bench import Bench, Precision, arithmetic
from ganinv.codes.code import Code
from ganinv.generators.files import open_generator
from ganinv.methods.published.checkpoints import open_encoder_checkpoint
from ganinv.stages.method import load_method
from ganinv.target import Target

GENERATOR, ENCODER, GRADIENT = 1e-4, 1e-3, 1e-3
"""Of float32, absolute and relative (the golden data's README): images, codes; gradients by their largest value."""
REDUCED: Mapping[Precision, float] = {"tf32": 0.01, "bfloat16": 0.05}
"""Root mean square of the error, as a share of the images' standard deviation."""
CLOSER = 1.02
"""Bar for methods: distance in reduced precision, as a multiple of that in float32."""


def golden(bench: Bench, precision: Precision) -> None:
    """A line for each golden case: the largest error, and whether it is within its tolerance."""
    folder = bench.shared / "golden"
    if not folder.is_dir():
        bench.note(left_out=f"no golden data at {folder}: set GANINV_SHARED")
        return
    cases = [*_generators(folder), *_encoders(folder)]
    for path, check in cases:
        if bench.scale.golden is None or path.stem in bench.scale.golden:
            bench.attempt(
                {"case": f"{path.parent.name}/{path.stem}", "precision": precision},
                partial(check, bench, path, precision),
            )


def _generators(folder: Path) -> Iterator[tuple[Path, Any]]:
    for npz in sorted([*folder.glob("nvidia/*.npz"), *folder.glob("rosinality/*.npz")]):
        beside = [npz.with_suffix(ending) for ending in (".pkl", ".pt")]
        with np.load(npz, allow_pickle=False) as arrays:
            has = set(arrays.files)
        if "wplus" in has and has & {"wplus_img_const", "wplus_img"}:
            for path in (one for one in beside if one.is_file()):
                yield path, _generator


def _encoders(folder: Path) -> Iterator[tuple[Path, Any]]:
    for described in sorted(folder.glob("encoders/*.json")):
        npz = described.with_suffix(".npz")
        if npz.is_file():
            with np.load(npz, allow_pickle=False) as arrays:
                if {"image_u8", "ws", "encoder_out", "img"} <= set(arrays.files):
                    yield described, _encoder


def _generator(bench: Bench, path: Path, precision: Precision) -> Mapping[str, Any]:
    want = _arrays(path, bench.device)
    g = open_generator(str(path), bench.device)
    image = want.get("wplus_img_const", want.get("wplus_img"))
    assert image is not None
    with arithmetic(precision), _reduced(g, precision):
        wplus = want["wplus"].requires_grad_(True)
        found = g.synthesize(Code(w=wplus))
        (gradient,) = torch.autograd.grad((found * want["probe"]).mean(), wplus)
    said = _said(found.detach(), image, precision, GENERATOR)
    slope = want["probe_grad_wplus"]
    off = float((gradient - slope).abs().max() / slope.abs().max())
    return {**said, "gradient_off": off, "ok": said["ok"] and (precision != "float32" or off < GRADIENT)}


def _encoder(bench: Bench, path: Path, precision: Precision) -> Mapping[str, Any]:
    from tests.closed_form import (  # how the recorded weights are made is described there
        closed_form_checkpoint,
        golden_images,
    )

    want = _arrays(path, bench.device)
    checkpoint = open_encoder_checkpoint(closed_form_checkpoint(path))
    assert checkpoint.generator is not None
    g = checkpoint.generator.to(bench.device)
    invert = checkpoint.inverter(g)
    images = golden_images(np.load(path.with_suffix(".npz"), allow_pickle=False)["image_u8"]).to(bench.device)
    with torch.no_grad(), arithmetic(precision), _reduced(g, precision):
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            code = invert(images)
        found = g.synthesize(Code(w=code.w.float()))
    said = _said(code.w.float(), want["ws"], precision, ENCODER)
    return {**said, "image_off": float((found - want["img"]).abs().max())}


def _arrays(path: Path, device: torch.device) -> dict[str, Tensor]:
    arrays = np.load(path.with_suffix(".npz"), allow_pickle=False)
    return {
        name: torch.from_numpy(np.asarray(arrays[name])).to(device) for name in arrays if arrays[name].dtype.kind == "f"
    }


def _reduced(g: Any, precision: Precision) -> Any:
    return g.computing_in("bfloat16" if precision == "bfloat16" else "float32")


def _said(found: Tensor, want: Tensor, precision: Precision, tolerance: float) -> dict[str, Any]:
    error = found - want
    rms = float(error.square().mean().sqrt() / want.std())
    within = bool((error.abs() <= tolerance * (1 + want.abs())).all())
    return {
        "largest": float(error.abs().max()), "rms_of_deviation": rms,
        "ok": within if precision == "float32" else rms < REDUCED[precision],
    }  # fmt: skip


def closeness(bench: Bench, precision: Precision) -> None:
    """Methods of the embedded generator on samples: distances in reduced precision against those in float32."""
    g = bench.generator("small")
    z = torch.randn(bench.scale.images, g.z_dim, generator=torch.Generator().manual_seed(2)).to(g.device)
    target = Target(g.render(Code(w=g.map(z, truncation_psi=0.8))).clamp(-1, 1))
    for name in bench.scale.close:
        bench.attempt({"method": name, "precision": precision}, partial(_distances, g, name, target))


def _distances(g: Any, name: str, target: Target) -> Mapping[str, Any]:
    far = {}
    for precision in ("float32", "bfloat16"):
        found = load_method(name, g, precision=precision).invert(target)
        far[precision] = sum(found.metrics["distance"]) / len(target)
    ratio = far["bfloat16"] / far["float32"]
    return {**far, "ratio": ratio, "ok": ratio <= CLOSER}
