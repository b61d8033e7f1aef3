"""Nothing is tied to 64 pixels: each method of high fidelity on one image of a generator of 1024 pixels, as wide as
published up to 64 pixels, with random weights, in float32 on the processor."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.methods.base import Inverter
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.registry import INVERTERS
from ganinv.methods.sam import Sam
from ganinv.methods.sfe import Sfe, SfeConfig
from ganinv.methods.w import WEncoder, WEncoderConfig
from tests.contracts.inverters import disturbed

WIDTHS = (512, 512, 512, 512, 512, 128, 32, 16, 8)
"""As published up to 64 pixels; finer layers are narrow, as rendering them would be most of the work."""
SHAPES: dict[str, dict[str, Any]] = {
    "hfgi": {},
    "padinv": {"relative": False, "encoder": {"backbone": "ir-se-50", "resolution": 256}},
    "hyperstyle": {"code_dim": 64, "steps": 2},
    "sam": {"encoders": True, "in_units": False},
    "sfe": {"resolution": 256},
    "sfe-editor": {},
    "invertfill": {"resolution": 256},
}
"""What a recipe of that size gives; HyperStyle's codes are shorter than published, so that its heads take less memory."""


@pytest.fixture(scope="module")
def large() -> Generator:
    torch.manual_seed(0)
    shape = {"resolution": 1024, "z_dim": 512, "w_dim": 512, "mapping_layers": 2, "channels": WIDTHS}
    g = Generator(GeneratorConfig.model_validate(shape))
    g.measure_w(256)
    return g.eval().requires_grad_(False)


def encoder_for(role: str, g: Generator) -> Inverter:
    if role == "w_encoder":
        w = WEncoderConfig.for_generator(g, {"backbone": "small", "resolution": 256, "pyramid_channels": 16})
        return disturbed(WEncoder(WEncoderConfig.model_validate(w), g), 1)
    if role == "inverter":
        return disturbed(Sfe(SfeConfig.model_validate(SfeConfig.for_generator(g, SHAPES["sfe"])), g), 1)
    psp = PspConfig.for_generator(g, {"resolution": 256, "pyramid_channels": 16, "head_channels": 8})
    return disturbed(Psp(PspConfig.model_validate(psp), g), 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHAPES)
def test_one_image_of_1024_pixels(kind: str, large: Generator) -> None:
    cls = INVERTERS[kind]
    needed = {role: encoder_for(role, large) for role in cls.needs}
    config = cls.Config.model_validate(cls.Config.for_generator(large, SHAPES[kind]))
    inverter = disturbed(cls(config, large, needed), 2)
    if isinstance(inverter, Sam):  # W+ is never good enough, or nothing would be left for the sites
        inverter.errors.heads[0].get_parameter("m.3.bias").fill_(10.0)
    image = torch.rand(1, 3, 1024, 1024) * 2 - 1
    with torch.no_grad():
        code = inverter(image)
        rendered = large.synthesize(code)
        edited = large.synthesize(inverter.after_edit(image, code, code.with_w(code.w + 0.5)))
        plain = large.synthesize(Code(w=code.w))
    assert rendered.shape == image.shape
    assert torch.isfinite(rendered).all()
    assert (rendered - plain).abs().max() > 1e-4
    assert (edited - rendered).abs().max() > 1e-3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{kind}: {peak:.1f} GiB at most, {sum(p.numel() for p in inverter.parameters()) / 1e6:.0f} M parameters")
