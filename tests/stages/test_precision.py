"""bfloat16 is for speed: what comes out is float32, and nearly as close."""

from __future__ import annotations

import pytest
import torch

from ganinv.codes.code import Code, LowRank
from ganinv.generators.files import open_generator
from ganinv.stages.method import load_method
from ganinv.target import Target
from tests.tiny import random_w, tiny_generator


def test_features_are_bfloat16_and_the_image_is_float32() -> None:
    g = tiny_generator()
    w = g.map(torch.randn(2, g.z_dim))
    weight = g.synthesis.convs[1].weight
    offset = LowRank(torch.randn(2, weight.shape[0], 2) * 0.1, torch.randn(2, 2, weight[0].numel()) * 0.1)
    code = Code(w=w, weights={"convs.1.weight": offset})
    plain = g.synthesize(code)
    with g.computing_in("bfloat16"):
        image, seen = g.synthesize(code, capture=["act[0]", "act[1]", "act[2]"])
    assert [f.dtype for f in seen.values()] == [torch.float32, torch.bfloat16, torch.bfloat16]
    assert image.dtype == torch.float32
    assert g.precision == "float32"
    assert not torch.equal(image, plain)
    assert (image - plain).square().mean() < 1e-3 * plain.square().mean()


@pytest.mark.seconds
def test_methods_in_bfloat16_come_as_close() -> None:
    g = tiny_generator()
    target = Target(g.render(Code(w=random_w(g, 4))))
    stages = {0: {"steps": 20}, 1: {"steps": 20}}
    full = load_method("pti-w", g, stages=dict(stages)).invert(target)
    method = load_method("pti-w", g, stages=dict(stages), precision="bfloat16")
    half = method.invert(target)
    assert g.precision == method.context.precision == "float32"
    assert half.code.w.dtype == torch.float32
    assert not torch.equal(g.render(half.code), g.render(full.code))
    assert half.error == [None] * 4
    # The bar of 2 % is for whole runs on the embedded generator (`benchmarks/generator/floor.py`).
    assert torch.tensor(half.metrics["distance"]).mean() < 1.1 * torch.tensor(full.metrics["distance"]).mean()


def test_an_encoder_in_bfloat16_gives_nearly_the_same_latents() -> None:
    g = open_generator("portraits-64")
    target = Target(g.render(Code(w=g.map(torch.randn(4, g.z_dim, generator=torch.Generator().manual_seed(0))))))
    full = load_method("e4e", g).invert(target).code.w
    half = load_method("e4e", g, precision="bfloat16").invert(target).code.w
    assert half.dtype == torch.float32
    assert 0 < (half - full).square().mean() < 1e-3 * full.var()
