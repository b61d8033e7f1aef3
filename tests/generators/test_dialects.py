"""One network in the layouts of three projects renders one image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from tests.generators.test_formats_other import genforce_state
from tests.reading.pickles import written, zipped


@pytest.fixture(scope="module")
def network() -> Generator:
    """Resolution 1024, few channels."""
    torch.manual_seed(0)
    g = Generator(GeneratorConfig(resolution=1024, channels=(4,) * 9, z_dim=8, w_dim=8, mapping_layers=2))
    for name, p in g.synthesis.named_parameters():
        if name.endswith(("noise_strength", ".bias")):
            p.data += 0.2 * torch.randn(p.shape)
    g.measure_w(100)
    return g.eval().requires_grad_(False)


@pytest.mark.seconds
def test_three_dialects_are_one_image(network: Generator, tmp_path: Path) -> None:
    save_generator(network, str(tmp_path / "ros"), format="rosinality")
    save_generator(network, str(tmp_path / "ada"), format="nvidia")
    written(tmp_path / "hammer", zipped(genforce_state(network, hammer=True)))
    w = torch.randn(1, network.num_ws, network.w_dim)
    noise = {k: torch.randn(1, 1, conv.resolution, conv.resolution) for k, conv in enumerate(network.synthesis.convs)}
    code = Code(w=w, noise=noise)
    want = network.synthesize(code)
    assert want.abs().mean() > 0.1
    for name in ("ros", "ada", "hammer"):
        g = open_generator(str(tmp_path / name))
        assert g.provenance is not None
        assert g.provenance.layout.startswith({"ros": "rosinality", "ada": "nvidia", "hammer": "hammer"}[name])
        assert (g.synthesize(code) - want).abs().max() < 1e-3
        assert (g.synthesize(Code(w=w)) - network.synthesize(Code(w=w))).abs().max() < 1e-3
