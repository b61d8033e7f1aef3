"""Published encoders against recorded outputs of the original implementations (shared/golden/encoders)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.editing.padding import transfer_structure
from ganinv.generators.files import open_generator
from ganinv.generators.padding import frame, ring_of
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter
from ganinv.methods.e4e import E4e
from ganinv.methods.files import open_inverter
from ganinv.methods.hfgi import Hfgi
from ganinv.methods.hyperstyle import HyperStyle
from ganinv.methods.in_domain import InDomainEncoder
from ganinv.methods.padinv import PadInv
from ganinv.methods.psp import Psp
from ganinv.methods.published.checkpoints import EncoderCheckpoint, open_encoder_checkpoint
from ganinv.methods.restyle import ReStyle
from ganinv.methods.w import WEncoder
from ganinv.store import open_store
from ganinv.weights.importing import import_weights
from tests.closed_form import closed_form_checkpoint, closed_form_parts, golden_images, golden_input
from tests.encoders.golden import (
    FIRST,
    FURTHER,
    Arrays,
    close,
    features_checked,
    generator_of,
    opened,
    stats,
    trunk_of,
)

pytestmark = pytest.mark.usefixtures("no_gradients")


def check_single_pass(checkpoint: EncoderCheckpoint, arrays: Arrays, trunk: nn.Module) -> None:
    """Offsets, codes and renderings of an encoder that is called once."""
    encoder, generator = checkpoint.encoder, generator_of(checkpoint)
    assert encoder is not None
    images = golden_images(arrays["image_u8"])
    with features_checked(trunk, arrays):
        offsets = encoder.offsets(images)
    out = torch.from_numpy(arrays["encoder_out"])
    torch.testing.assert_close(offsets, out if out.ndim == 3 else out[:, None].expand_as(offsets), **FIRST)
    code = encoder(images)
    close(code.w, arrays, "ws")
    rendered = generator.synthesize(code)
    close(rendered, arrays, "img")
    close(F.adaptive_avg_pool2d(rendered, 256).mean(dim=(2, 3)), arrays, "img_resized_mean")


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("case", "method", "cls", "average"),
    [
        ("psp_gradual_r32", "psp", Psp, (8, 512)),
        pytest.param("hyperstyle_w_encoder_r256", "w", WEncoder, (14, 512), marks=pytest.mark.slow),
    ],
)
def test_single_pass(encoders: Path, case: str, method: str, cls: type, average: tuple[int, ...]) -> None:
    checkpoint, arrays = opened(encoders, case)
    assert checkpoint.method == method
    assert set(checkpoint.parts) == {"encoder", "decoder"}
    assert checkpoint.what.latent_avg is not None
    assert tuple(checkpoint.what.latent_avg.shape) == average
    assert isinstance(checkpoint.encoder, cls)
    check_single_pass(checkpoint, arrays, trunk_of(checkpoint.encoder))


@pytest.mark.seconds
def test_from_a_file_with_its_generator(encoders: Path, tmp_path: Path) -> None:
    """As a user does it: ``open_generator`` takes the decoder of the same file, ``open_inverter`` is called on images."""
    file = str(tmp_path / "psp_w.pt")
    torch.save(closed_form_checkpoint(encoders / "psp_w_r32.json"), file)
    arrays = dict(np.load(encoders / "psp_w_r32.npz", allow_pickle=False))
    generator = open_generator(file)
    encoder = open_inverter(file, generator=generator)
    assert isinstance(encoder, WEncoder)
    images = golden_images(arrays["image_u8"])
    with features_checked(encoder.trunk, arrays):
        code = encoder(images)
    close(code.w, arrays, "ws")
    close((code.w - encoder.latent_avg)[:, 0], arrays, "encoder_out")
    close(generator.synthesize(code), arrays, "img")
    close(F.adaptive_avg_pool2d(generator.synthesize(code), 256).mean(dim=(2, 3)), arrays, "img_resized_mean")


@pytest.mark.seconds
def test_e4e_and_its_training_stages(encoders: Path) -> None:
    checkpoint, arrays = opened(encoders, "e4e_r32")
    assert checkpoint.method == "e4e"
    assert checkpoint.opts["delta_norm_lambda"] == 2e-4
    encoder = checkpoint.encoder
    assert isinstance(encoder, E4e)
    check_single_pass(checkpoint, arrays, trunk_of(encoder))
    for stage in (0, 3):  # the last one is checked above
        encoder.stage = stage
        close(encoder.offsets(golden_images(arrays["image_u8"])), arrays, f"encoder_out_stage{stage}")


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("case", "method", "cls"),
    [("restyle_psp_backbone_r32", "restyle-psp", Psp), ("restyle_e4e_resnet_r32", "restyle-e4e", E4e)],
)
def test_restyle(encoders: Path, case: str, method: str, cls: type) -> None:
    checkpoint, arrays = opened(encoders, case)
    assert checkpoint.method == method
    restyle, generator = checkpoint.inverter(steps=1), generator_of(checkpoint)
    assert isinstance(restyle, ReStyle)
    assert isinstance(restyle.encoder, cls)
    close(restyle.mean_rendering()[0], arrays, "avg_image")
    images = golden_images(arrays["image_u8"])
    with features_checked(trunk_of(restyle.encoder), arrays):
        code = restyle(images)
    first = torch.from_numpy(arrays["ws_steps"][:, 0])
    torch.testing.assert_close(code.w, first, **FIRST)
    torch.testing.assert_close(code.w - restyle.encoder.latent_avg, torch.from_numpy(arrays["encoder_out"]), **FIRST)
    # The recording showed the average image at every step, not the rendering of the step before: its steps all add the
    # same offset. So they are compared as that; what a step really sees is held by test_restyle.py.
    offset = code.w - restyle.encoder.latent_avg
    for step in range(3):
        w, tolerance = code.w + step * offset, FURTHER if step else FIRST
        torch.testing.assert_close(w, torch.from_numpy(arrays["ws_steps"][:, step]), **tolerance)
        rendered = generator.synthesize(Code(w=w))
        torch.testing.assert_close(rendered, torch.from_numpy(arrays["img_steps"][:, step]), **tolerance)


@pytest.fixture(scope="module")
def w_encoder(shared: Path) -> Inverter:
    """The encoder into W that both recordings of HyperStyle start from."""
    file = shared / "golden/encoders/hyperstyle_w_encoder_r256.json"
    encoder = open_encoder_checkpoint(closed_form_checkpoint(file, lambda key: key.startswith("encoder."))).encoder
    assert encoder is not None
    return encoder


@pytest.mark.slow
@pytest.mark.parametrize(("case", "passes", "every"), [("hyperstyle_r256", 2, 1), ("hyperstyle_full_r256", 3, 2)])
def test_hyperstyle(encoders: Path, w_encoder: Inverter, case: str, passes: int, every: int) -> None:
    """``every``: which pixels of a recorded image are there."""
    checkpoint, arrays = opened(encoders, case)
    assert checkpoint.method == "hyperstyle"
    assert set(checkpoint.parts) == {"hypernet", "decoder"}
    generator = generator_of(checkpoint)
    assert checkpoint.hypernet is not None
    assert [generator.style_names.index(n) for n in checkpoint.hypernet.layers] == arrays["delta_layers"].tolist()
    assert len(generator.style_names) == arrays["n_outputs"]
    hyperstyle = checkpoint.inverter(needed={"w_encoder": w_encoder}, steps=passes)
    assert isinstance(hyperstyle, HyperStyle)

    def rendered(code: Code) -> Tensor:
        return generator.synthesize(code)[:, :, ::every, ::every]

    seen: list[Tensor] = []  # each step looks at the rendering of what was there before it
    handle = generator.synthesis.register_forward_hook(lambda module, args, out: seen.append(out[0].image))
    codes = list(hyperstyle.refine(golden_images(arrays["image_u8"])))
    handle.remove()
    images = [*(image[:, :, ::every, ::every] for image in seen), rendered(codes[-1])]
    assert len(codes) == passes
    assert len(images) == 1 + passes
    close(images[0], arrays, "img_w_inversion")
    for step, code in enumerate(codes):
        tolerance = FURTHER if step else FIRST
        if step == 0:
            close(code.w, arrays, "w_codes")
        torch.testing.assert_close(code.w, torch.from_numpy(arrays["ws_steps"][:, step]), **tolerance)
        torch.testing.assert_close(images[1 + step], torch.from_numpy(arrays["img_steps"][:, step]), **tolerance)
        for layer, index in zip(checkpoint.hypernet.layers, arrays["delta_layers"], strict=True):
            check_offset(code, generator, layer, arrays, f"delta.step{step}.layer{index}", tolerance)
    if "img_edit" in arrays:
        edited = codes[-1].with_w(codes[-1].w + golden_input(encoders / f"{case}.json", "direction", [1, 1, 512]))
        close(rendered(edited), arrays, "img_edit", FURTHER)


def check_offset(
    code: Code, generator: Generator, layer: str, arrays: Arrays, name: str, tolerance: dict[str, Any]
) -> None:
    from ganinv.codes.parts import dense

    assert code.scales is not None
    shape = generator.synthesis.get_parameter(f"{layer}.weight").shape
    offset = dense(code.scales[f"{layer}.weight"], shape)[0]
    assert offset.shape == tuple(arrays[f"{name}.shape"])
    flat = offset.reshape(-1)
    close(flat[:: max(1, flat.numel() // 512)][:512], arrays, f"{name}.sample", tolerance)
    close(stats(flat), arrays, f"{name}.stats", tolerance)
    if f"{name}.sum" in arrays:  # of all values: a kernel whose taps or channels are swapped has the same statistics
        whole = flat.double()
        scale = {"atol": tolerance["atol"] * flat.numel() ** 0.5, "rtol": 1e-3}
        torch.testing.assert_close(whole.sum(), torch.tensor(float(arrays[f"{name}.sum"])).double(), **scale)
        torch.testing.assert_close(
            whole.square().sum(), torch.tensor(float(arrays[f"{name}.square_sum"])).double(), rtol=2e-3, atol=1e-3
        )


@pytest.mark.slow
def test_hfgi(encoders: Path) -> None:
    checkpoint, arrays = opened(encoders, "hfgi_fusion_r128")
    assert checkpoint.method == "hfgi"
    assert set(checkpoint.parts) == {"decoder", "grid_align", "residue"}
    hfgi, generator = checkpoint.inverter(), generator_of(checkpoint)
    assert isinstance(hfgi, Hfgi)
    images = golden_images(arrays["image_u8"])
    codes = {"inversion": Code(w=torch.from_numpy(arrays["ws"])), "edit": Code(w=torch.from_numpy(arrays["ws_edit"]))}
    aligned: list[Tensor] = []
    hfgi.aligner.register_forward_hook(lambda module, args, out: aligned.append(torch.cat([args[0][:, :3], out])))
    for name, edited in (("inversion", None), ("edit", codes["edit"])):
        close(generator.synthesize(codes[name]), arrays, f"{name}.first_image")
        code = hfgi.consult(images, codes["inversion"], edited)
        assert torch.equal(code.w, codes[name].w)
        residual, moved = aligned.pop()[:, :, ::4, ::4].chunk(2)
        close(residual, arrays, "residual_sample")
        close(moved, arrays, f"{name}.aligned_residual")
        assert code.features is not None
        film = code.features["act[7]"].film
        assert film is not None
        for kind, x in zip(("scale", "shift"), film, strict=True):
            close(x[:, ::64, ::8, ::8].contiguous(), arrays, f"{name}.{kind}_sample")
            close(stats(x), arrays, f"{name}.{kind}_stats")
        close(generator.synthesize(code), arrays, f"{name}.final_image")


def test_in_domain_from_its_file(encoders: Path) -> None:
    checkpoint = open_encoder_checkpoint(str(encoders / "idinvert_encoder_r64.pth"))
    arrays = dict(np.load(encoders / "idinvert_encoder_r64.npz", allow_pickle=False))
    assert checkpoint.method == "in-domain"
    assert checkpoint.n_styles == 10
    encoder = checkpoint.inverter()
    assert isinstance(encoder, InDomainEncoder)
    w = encoder(golden_images(arrays["image_u8"])).w
    assert w.shape == (2, 10, 64)
    close(w.flatten(1), arrays, "out")


@pytest.mark.slow
def test_padinv(encoders: Path, tmp_path: Path) -> None:
    """From its file through ``import``, and what follows from given codes and paddings to 1e-4."""
    case = encoders / "padinv_r64.json"
    arrays = dict(np.load(case.with_suffix(".npz"), allow_pickle=False))
    file = str(tmp_path / "padinv.pth")
    torch.save({"models": closed_form_parts(case), "running_metadata": {"iter": 1}}, file)
    made = import_weights(file, open_store(str(tmp_path / "store")), "p")
    generator = open_generator(made[0].uri)
    padinv = open_inverter(made[1].uri, generator=generator)
    assert isinstance(padinv, PadInv)
    images = golden_images(arrays["image_u8"])
    code = padinv(images)
    close(code.w, arrays, "ws")
    close(code.w - generator.w_mean, arrays, "encoder_out")
    assert isinstance(code.const, Tensor)
    close(code.const, arrays, "padding.0")
    assert code.padding is not None
    assert list(code.padding) == [0, 2, 4, 6]
    for k, ring in code.padding.items():
        close(frame(torch.zeros(len(ring), 512, *[4 * 2 ** (k // 2)] * 2), ring), arrays, f"padding.{k + 1}")
    close(generator.synthesize(code), arrays, "img")
    exact: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4}
    rings = {k: ring_of(torch.from_numpy(arrays[f"padding.{k + 1}"])) for k in code.padding}
    given = Code(w=torch.from_numpy(arrays["ws"]), const=torch.from_numpy(arrays["padding.0"]), padding=rings)
    close(generator.synthesize(given), arrays, "img", exact)
    close(generator.synthesize(given, noise="none"), arrays, "img_noise_none", exact)
    close(generator.synthesize(Code(w=given.w)), arrays, "img_without_padding", exact)
    moved = given.with_w(given.w + golden_input(case, "direction", [1, 10, 512]))
    close(generator.synthesize(moved), arrays, "img_edit", exact)
    blend = padinv(golden_images(arrays["blend_image_u8"]))
    close(blend.w, arrays, "blend_ws")
    mixed = transfer_structure(blend.with_w(torch.from_numpy(arrays["blend_ws"])), given)
    close(generator.synthesize(mixed), arrays, "img_blend", exact)
