"""What docs/methods promises of faces, on the embedded generator: minutes each."""

from __future__ import annotations

from pathlib import Path

import pytest
import skimage.data
import torch

from ganinv.codes.code import Code
from ganinv.data import open_dataset
from ganinv.directions.fitting.interfacegan import InterFaceGanConfig, fit_interfacegan
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.methods.files import open_inverter
from ganinv.metrics import mse, psnr
from ganinv.stages.base import Context
from ganinv.stages.method import Inversion, load_method
from ganinv.stages.objective import DomainLoss, ReconstructionLoss
from ganinv.stages.optimize import Optimize
from ganinv.target import Target

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CONSTANT = {"lr_rampup": 0.0, "lr_rampdown": 0.0, "latent_noise": 0.0}


@pytest.fixture(scope="module")
def g() -> Generator:
    return open_generator(EMBEDDED)


@pytest.fixture(scope="module")
def context(g: Generator) -> Context:
    return Context(g, lambda name: open_inverter(name, generator=g), lanes=4)


@pytest.fixture(scope="module")
def faces(demo_pictures: Path) -> Target:
    dataset = open_dataset(str(demo_pictures))
    ids = ["portrait-astronaut", "portrait-grace-hopper", "small-face-000", "small-face-001"]
    return Target(dataset.load(ids, 64).images, ids)


def invert(name: str, g: Generator, target: Target, **options: object) -> Inversion:
    return load_method(name, g, batch_size=4, **options).invert(target)


def test_noise_gains_ten_decibels(g: Generator, faces: Target) -> None:
    result = invert("image2stylegan-plus-plus", g, faces[1:3])
    gains = [a - b for a, b in zip(result.metrics["psnr"], result.metrics["psnr_plain"], strict=True)]
    assert min(gains) >= 10
    # Measured: 34 to 50 dB after 18 to 30. The paper's 45 dB are of 1024 pixels.
    assert sum(result.metrics["psnr"]) / 2 >= 38


def test_in_domain_inversion(g: Generator, context: Context, faces: Target) -> None:
    encoder = context.inverter("e4e")
    with torch.no_grad():
        start = encoder(faces.images)
    before = mse(g.render(start), faces.images)
    errors, opinions = [], []
    for weight in (0.0, 2.0, 10.0):
        loss = ReconstructionLoss(domain=DomainLoss(weight=weight))
        stage = Optimize(space="w+", start="code", steps=30, lr=0.01, loss=loss, **CONSTANT)
        result = stage(faces, start, context)
        assert all(curve[-1] < curve[0] for curve in result.loss)
        rendered = g.render(result.code)
        errors.append(float(mse(rendered, faces.images).mean()))
        with torch.no_grad():
            opinions.append(float((result.code.w - encoder(rendered).w).square().mean()))
        if weight == 2.0:
            # The paper's generator would give about 0.5. Measured here: 0.61 after 60 steps, 0.70 after these.
            assert float(mse(rendered, faces.images).mean()) <= 0.75 * float(before.mean())
    assert errors[0] < errors[1] < errors[2]
    assert opinions[0] > opinions[1] > opinions[2]
    from_mean = Optimize(space="w+", start="mean", steps=30, lr=0.01, **CONSTANT)(faces, None, context)
    assert errors[1] < float(mse(g.render(from_mean.code), faces.images).mean())


def test_starts_and_spaces(g: Generator, context: Context, faces: Target) -> None:
    """The mean latent beats a random one, W+ beats W, and more steps beat fewer."""
    final = {}
    for name, space, start, steps in (
        ("mean", "w+", "mean", 20),
        ("random", "w+", "random", 20),
        ("w", "w", "mean", 20),
        ("short", "w+", "mean", 7),
    ):
        stage = Optimize(space=space, start=start, steps=steps, lr=0.05, latent_noise=0.0)
        final[name] = torch.tensor([curve[-1] for curve in stage(faces, None, context).loss])
    assert (final["mean"] < final["random"]).all()
    assert (final["mean"] < final["w"]).all()
    assert (final["mean"] < final["short"]).all()


def test_own_images_are_found_again(g: Generator) -> None:
    """Self-inversion of samples with psi 0.7: more than 30 dB on at least 90 % of them."""
    z = torch.randn(8, g.z_dim, generator=torch.Generator().manual_seed(5))
    target = Target(g.render(Code(w=g.map(z, truncation_psi=0.7))))
    result = invert("w-plus-optimisation", g, target)
    found = psnr(g.render(result.code), target.images)
    assert (found > 30).float().mean() >= 0.9, found


def test_what_is_no_face_lies_further_out(g: Generator, context: Context, faces: Target, tmp_path: Path) -> None:
    """||w - w_mean|| of a cat, a rocket, a cup of coffee and galaxies, against four faces."""
    from PIL import Image

    pictures = (skimage.data.chelsea, skimage.data.rocket, skimage.data.coffee, skimage.data.hubble_deep_field)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture()).save(tmp_path / f"{i}.png")
    dataset = open_dataset(str(tmp_path))
    others = Target(dataset.load(dataset.ids, 64).images, dataset.ids)
    stage = Optimize(space="w+", steps=40, lr=0.05, latent_noise=0.0)
    far = [(stage(t, None, context).code.w - g.w_mean).flatten(1).norm(dim=1) for t in (faces, others)]
    assert far[1].mean() > far[0].mean(), far


def test_edits_of_tuned_generators_go_the_same_way(g: Generator, shared: Path) -> None:
    """PTI: the attribute changes with the sign that it has on the untuned generator, on 95 % of images.

    Not so of grey faces of 25 pixels: of the four built-in pictures one such is at fault, and 94 % hold.
    """
    portraits = open_dataset(
        str(shared / "data/official-portraits/portraits.parquet"), where={"split": "test"}, limit=8
    )
    target = Target(portraits.load(portraits.ids, 64).images, portraits.ids)
    labeller = open_labeller(EMBEDDED)
    w = g.map(sample_z(0, range(1500), g.z_dim), truncation_psi=0.8)
    scores = labeller.score(g.render(Code(w=w)))
    tuned = invert("pti", g, target).code
    codes = (tuned, Code(w=tuned.w))
    unmoved = [labeller.score(g.render(code).clamp(-1, 1)) for code in codes]
    same: list[bool] = []
    for name in ("smile", "age", "yaw"):
        boundary = fit_interfacegan(
            w[:, 0].numpy(), scores[name], InterFaceGanConfig(estimator="ridge"), attribute=name
        )
        direction = boundary.direction(g.name, g.fingerprint)
        for strength in (-3.0, -1.0, 1.0, 3.0):
            moved = []
            for code, before in zip(codes, unmoved, strict=True):
                edited = code.with_w(code.w + direction.step(code.w, torch.tensor(strength)))
                after = labeller.score(g.render(edited).clamp(-1, 1))
                moved.append(torch.as_tensor(after[name]) - torch.as_tensor(before[name]))
            same += (moved[0].sign() == moved[1].sign()).tolist()
    assert sum(same) >= 0.95 * len(same)
