"""The discrepancy between two sets of reconstructions: parity with UDA-Inversion's, and what makes it zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ganinv.losses.discrepancy import DISCREPANCIES, Discrepancy, conjugate
from ganinv.losses.distance import LpipsDistance
from tests.closed_form import closed_form_state, golden_images
from tests.tiny import tiny_generator


def test_the_conjugate() -> None:
    assert conjugate(torch.tensor(0.0)) == 0
    assert conjugate(torch.tensor(2.0)) == 3


def test_networks_that_see_the_same_find_nothing() -> None:
    g = tiny_generator()
    assert g.discriminator is not None
    discrepancy = DISCREPANCIES["embedded"](g)
    source, target = torch.rand(2, 4, 3, 32, 32) * 2 - 1
    assert discrepancy.distance(source) > 0
    assert discrepancy(source, target) != 0
    discrepancy.network.load_state_dict(g.discriminator.state_dict())
    assert discrepancy.distance(source) == 0
    assert discrepancy(source, target) == 0


def test_the_learned_network_is_another_one() -> None:
    g = tiny_generator()
    discrepancy = DISCREPANCIES["embedded"](g)
    assert discrepancy.network is not g.discriminator
    images = (torch.rand(2, 3, 32, 32) * 2 - 1).requires_grad_(True)
    discrepancy.network.requires_grad_(True)
    discrepancy.distance(images).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert g.discriminator is not None
    assert all(p.grad is None for p in g.discriminator.parameters())


@pytest.mark.seconds
def test_it_is_the_published_one(shared: Path, tmp_path: Path) -> None:
    """Values and gradients (shared/golden/losses/uda_discrepancy); the learned AlexNet has 2,469,696 numbers."""
    folder = shared / "golden/losses"
    golden = dict(np.load(folder / "uda_discrepancy.npz", allow_pickle=False))
    for name, file in (("fixed", "lpips_alex"), ("learned", "uda_discrepancy")):
        torch.save(closed_form_state(folder / f"{file}.json"), tmp_path / f"{name}.pth")
    fixed, learned = (LpipsDistance("alex", backbone=tmp_path / f"{name}.pth") for name in ("fixed", "learned"))
    network = learned.model.net.requires_grad_(True)
    assert sum(p.numel() for p in network.parameters()) == 2_469_696
    discrepancy = Discrepancy(fixed, learned, network)
    source, target = (golden_images(golden[f"{name}_u8"]).requires_grad_(True) for name in ("source", "target"))
    exact = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(discrepancy.distance(source).item(), golden["l_source"], **exact)
    np.testing.assert_allclose(discrepancy.distance(target).item(), golden["l_target"], **exact)
    found = discrepancy(source, target)
    np.testing.assert_allclose(found.item(), golden["discrepancy"], **exact)
    found.backward()
    for image, name in ((source, "grad_source"), (target, "grad_target")):
        check(image.grad, golden[name])
    ours = {name.split(".", 1)[1]: p for name, p in network.named_parameters()}
    for name in [name for name in golden if name.startswith("grad_H.")]:
        key = name.removeprefix("grad_H.features.").removesuffix(".sample")
        flat = ours[key].grad.flatten()
        check(flat[:: max(1, flat.numel() // 512)][:512], golden[name])
    wanted = torch.from_numpy(golden["conjugate_out"])
    torch.testing.assert_close(conjugate(torch.from_numpy(golden["conjugate_in"])), wanted, rtol=1e-4, atol=1e-5)


def check(gradient: torch.Tensor | None, wanted: np.ndarray) -> None:
    """As the recordings ask: 1e-6 and a thousandth of the largest."""
    assert gradient is not None
    np.testing.assert_allclose(gradient.numpy(), wanted, rtol=0, atol=1e-6 + 1e-3 * np.abs(wanted).max())
