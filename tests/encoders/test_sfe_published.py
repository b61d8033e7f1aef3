"""StyleFeatureEditor's published checkpoints against recorded outputs of the original (shared/golden)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.errors import WeightsRefused
from ganinv.generators.files import open_generator
from ganinv.generators.sites import site_number
from ganinv.methods.files import open_inverter
from ganinv.methods.published.checkpoints import open_encoder_checkpoint
from ganinv.methods.sfe import Sfe
from ganinv.methods.sfe_editor import SfeEditor
from ganinv.networks.feature_units import FeatureStyleTrunk
from tests.closed_form import closed_form_state, closed_form_tensor, golden_images
from tests.encoders.golden import FIRST, close, stats

CASE = "pipelines/style_feature_editor_r128"


def generator_file(golden: Path, folder: Path) -> str:
    """The recorded generator, with its mean latent, as rosinality's program saves it."""
    tree = {
        "g_ema": closed_form_state(golden / f"{CASE}_generator.json"),
        "latent_avg": closed_form_tensor("sfe-a-g", "latent_avg", [1, 512], 0.0, 0.3)[0],
    }
    torch.save(tree, folder / "generator.pt")
    return str(folder / "generator.pt")


def state_of(file: Path) -> dict[str, Tensor]:
    """A closed-form state dict without any stored kernels."""
    meta = json.loads(file.read_text())
    return {
        key: closed_form_tensor(meta["salt"], key, spec["shape"], spec["a"], spec["b"], spec["dtype"])
        for key, spec in meta["tensors"].items()
    }


def sampled(x: Tensor) -> Tensor:
    return x[:, ::64, ::4, ::4]


@pytest.mark.slow
@torch.no_grad()
def test_inversion_and_edits(shared: Path, tmp_path: Path) -> None:
    golden = shared / "golden"
    arrays = dict(np.load(golden / f"{CASE}.npz", allow_pickle=False))
    g = open_generator(generator_file(golden, tmp_path))
    torch.save({"state_dict": state_of(golden / f"{CASE}_e4e.json")}, tmp_path / "e4e.pt")
    torch.save({"state_dict": state_of(golden / f"{CASE}.json")}, tmp_path / "sfe.pt")
    editor = open_inverter(str(tmp_path / "sfe.pt"), generator=g, needed={"encoder": str(tmp_path / "e4e.pt")})
    assert isinstance(editor, SfeEditor)
    inverter = editor.need("inverter")
    assert isinstance(inverter, Sfe)
    images = golden_images(arrays["image_u8"])

    seen = calls(inverter=inverter, stem=inverter.backbone.stem, trunk=inverter.backbone, content=inverter.content)
    code = editor(images)  # one pass, whose parts are looked at below
    pooled = check_trunk(seen, arrays)
    rows = torch.stack([head(pooled) for head in inverter.heads], dim=1)
    close(rows, arrays, "encoder_out")
    first = seen["inverter"]
    close(first.w, {"ws": arrays["ws"][:, : g.num_ws]}, "ws")
    plain = Code(w=first.w)
    own, fused, inserted = (
        g.synthesize(plain, stop=site_number(inverter.cfg.site)),
        editor.held(first),
        editor.held(code),
    )
    for name, x in (("w_feat", own.x), ("fused_feat", fused.value), ("inserted_feat", inserted.value)):
        close(sampled(x), arrays, f"{name}_sample")
        close(stats(x), arrays, f"{name}_stats")
    close(g.synthesize(plain), arrays, "img_plain")
    close(g.synthesize(first), arrays, "img_inverter")
    close(g.synthesize(code), arrays, "img")
    half = g.synthesize(plain, start=own._replace(x=(own.x + inserted.value) / 2))
    close(half, arrays, "img_half_scale")

    helper = editor.need("encoder")(images)
    close(helper.w, arrays, "w_e4e")
    direction = closed_form_tensor("sfe-a", "direction", [1, 1, 512], 0.0, 0.5)
    steps = torch.from_numpy(arrays["degrees"]).float()[:, None, None] * direction
    delta = editor.delta(helper, helper.with_w(helper.w + steps))
    # Both at once: they share the image's features.
    edited = editor.after_edit(images, code, code.with_w(code.w + steps))
    torch.testing.assert_close(g.synthesize(edited), torch.from_numpy(arrays["img_edits"][0]), **FIRST)
    for name, each in (("edit_delta", delta), ("edit_feat", editor.held(edited).value)):
        close(sampled(each), arrays, f"{name}_sample")
        close(stats(each), arrays, f"{name}_stats")


def calls(**modules: nn.Module) -> dict[str, Any]:
    """What each gives on its first call from now on."""
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            seen.setdefault(name, out)

        return hook

    for name, module in modules.items():
        module.register_forward_hook(keep(name))
    return seen


def check_trunk(seen: dict[str, Any], arrays: dict[str, np.ndarray]) -> Tensor:
    """The trunk's maps against the recorded ones; what the style heads read."""
    maps = seen["trunk"]
    for name, x in (("stem", seen["stem"][0]), *((f"block{i}", x[0]) for i, x in enumerate(maps, start=1))):
        step = [n // 8 for n in x.shape]
        close(x[:: step[0], :: step[1], :: step[2]][:8, :8, :8].contiguous(), arrays, f"feat.{name}.sample")
        close(stats(x), arrays, f"feat.{name}.stats")
    close(sampled(seen["content"]), arrays, "predicted_feat_sample")
    close(stats(seen["content"]), arrays, "predicted_feat_stats")
    return FeatureStyleTrunk.pooled(maps)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "cls"), [("", SfeEditor), ("_inverter", Sfe)])
def test_published_names_and_shapes(shared: Path, case: str, cls: type) -> None:
    """What files of the real size hold, for a generator of 1024 pixels. Values do not matter: the test above reads files."""
    meta = json.loads((shared / f"golden/layouts/style_feature_editor_r1024{case}.json").read_text())
    state = {
        key: torch.zeros(spec["shape"], dtype=getattr(torch, spec["dtype"])) for key, spec in meta["tensors"].items()
    }
    state["discriminator.final_linear.0.weight"] = torch.zeros(2, 2)  # files for further training hold one
    opened = open_encoder_checkpoint({"state_dict": state, "latent_avg": torch.zeros(18, 512)})
    assert opened.method == ("sfe-editor" if cls is SfeEditor else "sfe")
    assert opened.generator is None
    assert type(opened.whole) is cls
    inverter = opened.whole.needed["inverter"] if cls is SfeEditor else opened.whole
    assert sum(p.numel() for p in inverter.parameters()) == 138_056_384
    if cls is SfeEditor:
        assert sum(p.numel() for p in opened.whole.parameters()) == 24_135_680


def test_what_is_missing_is_said() -> None:
    state = {"inverter.fs_backbone.conv.0.weight": torch.zeros(64, 3, 3, 3)}
    with pytest.raises(WeightsRefused, match=r"without its editor, encoder\.\*"):
        open_encoder_checkpoint({"state_dict": state})
    state = {
        "encoder.fs_backbone.conv.0.weight": torch.zeros(64, 3, 3, 3),
        "encoder.fs_backbone.styles.17.bias": torch.zeros(512),
    }
    with pytest.raises(WeightsRefused, match=r"has no latent_avg.*give the generator it belongs to"):
        open_encoder_checkpoint({"state_dict": state})
    with pytest.raises(WeightsRefused, match=r"encoder is not whole or not of this kind: missing .*fs_backbone"):
        open_encoder_checkpoint({"state_dict": state, "latent_avg": torch.zeros(18, 512)})
