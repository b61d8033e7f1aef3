"""The papers' own recipes, as they stand but for the size of batches and data: each is built and takes two steps.

Networks that measure have random weights, of the right names and shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.losses._compat import ensure_torchvision
from ganinv.losses.choosing import LPIPS_BACKBONES
from ganinv.methods.base import Inverter
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.registry import load_recipe
from ganinv.training.batches import MixedBatches
from ganinv.training.trainer import Trainer
from tests.closed_form import closed_form_state

FEW = {"steps": 2, "batch_size": 2, "validation.images": 2}
RECIPES: dict[str, tuple[int, dict[str, Any]]] = {
    "ffhq-1024-interestyle": (
        64,
        {"passes": 2, "data.masks.segmenter": "aligned-face", "inverter.encoder.resolution": 64},
    ),
    "ffhq-256-in-domain": (64, {"inverter.resolution": 64}),
    "ffhq-1024-uda": (64, {}),
    "ffhq-1024-sfe": (128, {"adversarial_from": 0, "inverter.resolution": 64}),
    "ffhq-1024-sfe-editor": (128, {}),
    "ffhq-256-invertfill": (64, {}),
}
"""Name -> resolution of the narrow generator that stands for the paper's, and what the test's machine cannot do otherwise."""


class Renderings:
    """Four renderings as the data set."""

    def __init__(self, g: Generator) -> None:
        z = torch.randn(4, g.z_dim, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            rendered = g.synthesize(Code(w=g.map_all(z))).clamp(-1, 1)
        self.pixels = ((rendered + 1) * 127.5).round().byte()

    def __len__(self) -> int:
        return len(self.pixels)

    def load(self, positions: Sequence[int]) -> tuple[Tensor, list[str]]:
        return self.pixels[torch.tensor(positions)], [str(p) for p in positions]


def narrow(resolution: int) -> Generator:
    """A generator with the published width of W, and its discriminator."""
    torch.manual_seed(0)
    channels = (8,) * (resolution.bit_length() - 2)
    g = Generator(GeneratorConfig(resolution=resolution, channels=channels, z_dim=512, w_dim=512, mapping_layers=2))
    g.discriminator = Discriminator(resolution, channels)
    g.measure_w(500)
    return g.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def measures(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of AlexNet, VGG16 and the face network."""
    ensure_torchvision()
    from torchvision import models

    folder = tmp_path_factory.mktemp("measures")
    hub = folder / "hub/checkpoints"
    hub.mkdir(parents=True)
    for net, make in (("alex", models.alexnet), ("vgg", models.vgg16)):
        torch.save({n: t for n, t in make().state_dict().items() if "features" in n}, hub / LPIPS_BACKBONES[net])
    torch.save(closed_form_state(shared / "golden/losses/arcface_irse50.json"), folder / "model_ir_se50.pth")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_steps(name: str, measures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(measures))
    resolution, changes = RECIPES[name]
    plain = load_recipe(name)
    if plain.losses.identity:
        changes = changes | {"losses.identity_weights": str(measures / "model_ir_se50.pth")}
    recipe, g = load_recipe(name, {**FEW, **changes}), narrow(resolution)
    needed: dict[str, Inverter] = {}
    if plain.needed:
        small = PspConfig(resolution=resolution, num_ws=g.num_ws, w_dim=512, base_channels=8, pyramid_channels=8)
        needed = {role: Psp(small, g).eval().requires_grad_(False) for role in plain.needed}
    images = Renderings(g)
    trainer = Trainer(recipe, lambda: recipe.build(g, needed, None), MixedBatches(recipe.data, g, 2, images))
    before = {n: p.clone() for n, p in trainer.learner.network.named_parameters()}
    losses = [trainer.step() for _ in range(2)]
    assert all(torch.isfinite(torch.tensor(list(one.values()))).all() for one in losses)
    wanted = {name for name in ("l2", "distance") if getattr(plain.losses, name)} | (
        {"identity"} if plain.losses.identity else set()
    )
    assert wanted <= losses[1].keys()
    assert any(not torch.equal(p, before[n]) for n, p in trainer.learner.network.named_parameters())
