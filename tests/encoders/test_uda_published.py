"""UDA-Inversion's and IntereStyle's published files, which have the names of HFGI's and ReStyle's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.errors import WeightsRefused
from ganinv.methods.base import ImageEncoder
from ganinv.methods.hfgi import Hfgi, HfgiConfig
from ganinv.methods.interestyle import IntereStyle
from ganinv.methods.published.checkpoints import open_encoder_checkpoint
from ganinv.methods.published.describe import describe
from tests.closed_form import closed_form_checkpoint, golden_images, golden_input
from tests.encoders.golden import FIRST, close, generator_of, opened, stats
from tests.encoders.outlines import outline
from tests.tiny import random_w, tiny_generator

pytestmark = pytest.mark.usefixtures("no_gradients")


def test_a_published_file_at_its_real_size_is_told_to_be_hfgi_s_kind() -> None:
    what = describe(outline("uda_ffhq_r1024"), encoder_type="Encoder4Editing")
    assert (what.method, what.n_styles, what.input_size) == ("hfgi", 18, (256, 256))
    assert set(what.parts) == {"encoder", "decoder", "grid_align", "residue"}


@pytest.mark.slow
def test_the_whole_inference_script(shared: Path) -> None:
    """Inversion and edit, 256 pixels read and 64 rendered (shared/golden/pipelines/uda_r64)."""
    case = shared / "golden/pipelines/uda_r64.json"
    arrays = dict(np.load(case.with_suffix(".npz"), allow_pickle=False))
    checkpoint = open_encoder_checkpoint(closed_form_checkpoint(case))
    hfgi, generator = checkpoint.inverter(), generator_of(checkpoint)
    assert isinstance(hfgi, Hfgi)
    encoder = hfgi.need("encoder")
    assert isinstance(encoder, ImageEncoder)
    images = golden_images(arrays["image_u8"])
    codes, aligned = list[Code](), list[tuple[Tensor, Tensor]]()
    encoder.register_forward_hook(lambda module, args, out: codes.append(out))
    hfgi.aligner.register_forward_hook(lambda module, args, out: aligned.append((args[0][:, :3], out)))
    inverted = hfgi(images)
    (code,) = codes
    close(code.w, arrays, "ws")
    close(code.w - encoder.latent_avg, arrays, "encoder_out")
    close(generator.synthesize(code), arrays, "first_image")
    turned = Code(w=code.w + golden_input(case, "age", [1, 512]))
    for name, edited, target in (("inversion", None, code), ("age", turned, turned)):
        found = inverted if edited is None else hfgi.after_edit(images, inverted, edited)
        assert torch.equal(found.w, target.w)
        close(found.w, arrays, f"{name}.ws")
        residual, moved = (x[:, :, ::4, ::4].contiguous() for x in aligned.pop())
        close(residual, arrays, "residual_sample")
        close(moved, arrays, f"{name}.aligned_residual")
        assert found.features is not None
        film = found.features["act[7]"].film
        assert film is not None
        for kind, x in zip(("scale", "shift"), film, strict=True):
            close(x[:, ::64, ::8, ::8].contiguous(), arrays, f"{name}.{kind}_sample")
            close(stats(x), arrays, f"{name}.{kind}_stats")
        close(generator.synthesize(found), arrays, f"{name}.final_image")


def test_cars_are_cut_as_in_training_or_squeezed_as_in_the_script() -> None:
    g = tiny_generator(64)
    shape: dict[str, Any] = {"input_height": 24, "input_width": 32, "channels": g.cfg.channels[4]}
    trained, script = (Hfgi(HfgiConfig(**shape, squeezed_residual=how), g).eval() for how in (False, True))
    images, code = torch.zeros(1, 3, 24, 32), Code(w=random_w(g, 1))
    rendering = g.synthesize(code).clamp(-1, 1)

    def halved(x: Tensor, size: tuple[int, int]) -> Tensor:
        return torch.nn.functional.interpolate(x, size, mode="bilinear")

    band = halved(rendering[:, :, 8:56], (24, 32))
    for one, compared in ((trained, band), (script, halved(rendering, (24, 32)))):
        residual, first = one.residual(images, code)
        torch.testing.assert_close(residual, -compared)
        torch.testing.assert_close(first, band)


def masked(tree: dict[str, Any]) -> dict[str, Any]:
    """A ReStyle file as IntereStyle's trainer writes it: one more option, and a device that is not text."""
    return {**tree, "opts": {**tree["opts"], "apply_mask_loss": True, "device": torch.device("cuda:0")}}


def test_what_was_trained_with_masks_is_told_from_restyle() -> None:
    tree = outline("restyle_psp_backbone_r32")
    assert describe(tree).method == "restyle-psp"
    what = describe(masked(tree))
    assert (what.method, what.encoder_type, what.n_styles) == ("interestyle", "BackboneEncoder", 8)
    assert what.sees_rendering
    strange = masked(tree)
    strange["opts"]["encoder_type"] = "MaskedBackboneEncoder"
    with pytest.raises(WeightsRefused, match="encoder type 'MaskedBackboneEncoder' is not known; known are Gradual"):
        describe(strange)


@pytest.mark.slow
def test_interestyle_runs_as_restyle(shared: Path, tmp_path: Path) -> None:
    _, arrays = opened(shared / "golden/encoders", "restyle_psp_loop_r32")
    file = str(tmp_path / "interestyle.pt")
    torch.save(masked(closed_form_checkpoint(shared / "golden/encoders/restyle_psp_loop_r32.json")), file)
    interestyle = open_encoder_checkpoint(file).inverter(steps=1)
    assert isinstance(interestyle, IntereStyle)
    w = interestyle(golden_images(arrays["image_u8"])).w
    torch.testing.assert_close(w, torch.from_numpy(arrays["ws_steps"][:, 0]), **FIRST)
