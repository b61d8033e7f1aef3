"""E2Style, Style Transformer and whole loops of ReStyle against recorded outputs of the original implementations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.directions.fitting.classifier_gradient import ClassifierGradientEditor
from ganinv.methods.e2style import E2Style
from ganinv.methods.reference_editor import ReferenceEditor
from ganinv.methods.restyle import ReStyle
from ganinv.methods.style_transformer import StyleTransformer
from tests.closed_form import golden_images
from tests.encoders.golden import FIRST, FURTHER, close, features_checked, generator_of, opened, stats, trunk_of

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.mark.seconds
def test_style_transformer(encoders: Path) -> None:
    checkpoint, arrays = opened(encoders, "style_transformer_r64")
    assert checkpoint.method == "style-transformer"
    assert checkpoint.n_styles == 10
    encoder, generator = checkpoint.inverter(), generator_of(checkpoint)
    assert isinstance(encoder, StyleTransformer)
    close(encoder.queries(), arrays, "query")
    images, calls = golden_images(arrays["image_u8"]), list[tuple[Tensor, Tensor]]()
    for layer in encoder.layers:
        layer.register_forward_hook(lambda module, args, out: calls.append((args[1], out)))
    with features_checked(encoder.backbone.trunk, arrays):
        code = encoder(images)
    memories, tokens = zip(*calls, strict=True)
    for found, name in zip(tokens, ("token_coarse", "token_medium", "encoder_out"), strict=True):
        close(found, arrays, name)
    close(tokens[2] + encoder.latent_avg, arrays, "ws")
    close(code.w, {"ws": arrays["ws"][:, :10]}, "ws")
    for found, name in zip(memories, ("coarse", "medium", "fine"), strict=True):
        close(stats(found), arrays, f"memory_{name}_stats")
    close(memories[1][0, ::128, ::8].contiguous(), arrays, "memory_medium_sample")
    close(memories[2][0, ::512, ::8].contiguous(), arrays, "memory_fine_sample")
    rendered = generator.synthesize(code)
    close(rendered, arrays, "img")
    close(F.adaptive_avg_pool2d(rendered, 256).mean(dim=(2, 3)), arrays, "img_resized_mean")


@pytest.mark.slow
def test_e2style(encoders: Path) -> None:
    checkpoint, arrays = opened(encoders, "e2style_3stages_r1024")
    assert checkpoint.method == "e2style"
    e2style, generator = checkpoint.inverter(), generator_of(checkpoint)
    assert isinstance(e2style, E2Style)
    assert (e2style.cfg.split, len(e2style.stages)) == ((9, 5, 4), 3)
    seen: list[Tensor] = []
    for stage in e2style.stages:
        stage.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = golden_images(arrays["image_u8"])
    with features_checked(e2style.stages[0].backbone, arrays):
        codes = list(e2style.refine(images))
    close(codes[0].w - e2style.latent_avg, arrays, "encoder_out")
    before = e2style.latent_avg.expand(1, 18, -1)
    for k, code in enumerate(codes):
        tolerance = FURTHER if k else FIRST
        close(code.w, {"w": arrays["ws_steps"][:, k]}, "w", tolerance)
        close(code.w - before, {"offset": arrays["offset_steps"][:, k]}, "offset", tolerance)
        before = code.w
    close(codes[-1].w, arrays, "ws", FURTHER)
    for k in (1, 2):
        rendering = seen[k][:, 3:, ::8, ::8].contiguous()
        close(rendering, {"seen": arrays["seen_steps_sample"][:, k - 1]}, "seen", FURTHER)
    rendered = generator.synthesize(codes[-1])
    close(rendered[:, :, ::8, ::8].contiguous(), {"img": arrays["img_steps"][:, 2]}, "img", FURTHER)
    pooled = F.adaptive_avg_pool2d(rendered, 256)
    close(pooled[:, :, ::2, ::2].contiguous(), arrays, "img_resized", FURTHER)
    close(pooled.mean(dim=(2, 3)), arrays, "img_resized_mean", FURTHER)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["restyle_psp_loop_r32", "restyle_e4e_loop_r32"])
def test_restyle_sees_its_own_renderings(encoders: Path, case: str) -> None:
    """The original's whole inference loop: three steps, each on the rendering of the one before."""
    checkpoint, arrays = opened(encoders, case)
    restyle, generator = checkpoint.inverter(steps=3), generator_of(checkpoint)
    assert isinstance(restyle, ReStyle)
    close(restyle.mean_rendering()[0], arrays, "avg_image")
    seen: list[Tensor] = []
    restyle.encoder.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with features_checked(trunk_of(restyle.encoder), arrays):
        codes = list(restyle.refine(golden_images(arrays["image_u8"])))
    close(codes[0].w - restyle.encoder.latent_avg, arrays, "encoder_out")
    before = restyle.encoder.latent_avg.expand_as(codes[0].w)
    for step, code in enumerate(codes):
        tolerance = FURTHER if step else FIRST
        close(seen[step][:, 3:, ::8, ::8].contiguous(), {"s": arrays["seen_steps_sample"][:, step]}, "s", tolerance)
        close(code.w - before, {"o": arrays["offset_steps"][:, step]}, "o", tolerance)
        close(code.w, {"w": arrays["ws_steps"][:, step]}, "w", tolerance)
        close(generator.synthesize(code), {"i": arrays["img_steps"][:, step]}, "i", tolerance)
        before = code.w


@pytest.mark.seconds
def test_edits_of_style_transformer(encoders: Path) -> None:
    """The reference-based edit, its classifier and losses, and the first-order label-based edit."""
    checkpoint, arrays = opened(encoders, "style_transformer_edit_r32")
    assert checkpoint.method == "reference-editor"
    editor, generator = checkpoint.inverter(), generator_of(checkpoint)
    assert isinstance(editor, ReferenceEditor)
    assert editor.classifier is not None
    source, reference = (torch.from_numpy(arrays[name]) for name in ("src", "ref"))
    edited = editor.edit_by_reference(Code(w=source), Code(w=reference))
    close(edited.w, arrays, "mix")
    close(generator.synthesize(Code(w=edited.w[:, : generator.num_ws])), arrays, "img")
    found = {name: editor.scores(torch.from_numpy(arrays[name])) for name in ("src", "ref", "mix")}
    for name, (logits, embeddings) in found.items():
        close(logits, arrays, f"logits_{name}")
        if f"embedding_{name}" in arrays:
            close(embeddings, arrays, f"embedding_{name}")
    attribute = int(arrays["attr"])
    others = [k for k in range(40) if k != attribute]
    embedded = {name: embeddings for name, (_, embeddings) in found.items()}
    losses = {
        "src_code": F.mse_loss(source, edited.w),
        "ref_attr": F.mse_loss(embedded["ref"][:, attribute], embedded["mix"][:, attribute]),
        "src_attr": F.mse_loss(embedded["src"][:, others], embedded["mix"][:, others]),
    }
    for name, value in losses.items():
        close(value.double(), arrays, f"loss_l2_{name}", {"atol": 1e-5, "rtol": 1e-4})
    for target in (0, 1):
        by_label = ClassifierGradientEditor(
            editor.classifier.scores, editor.cfg.classes[attribute], target=float(target)
        )
        # Away from the target is the direction of the gradient, which the recording has.
        close(-by_label.direction(source), arrays, f"first_order_{target}")
