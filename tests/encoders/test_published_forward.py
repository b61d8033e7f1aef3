"""Files of E2Style and Style Transformer: what they are told to be, and what is refused."""

from __future__ import annotations

import pytest
import torch

from ganinv.config import validate
from ganinv.errors import ConfigError, GeneratorMismatch, WeightsRefused
from ganinv.methods.e2style import E2Style, E2StyleConfig, split_rows
from ganinv.methods.published.checkpoints import open_encoder_checkpoint
from ganinv.methods.published.describe import describe
from ganinv.methods.style_transformer import StyleTransformer, StyleTransformerConfig
from ganinv.networks.latent_classifier import open_latent_classifier
from ganinv.networks.transformer import DecoderLayer
from tests.encoders.outlines import outline
from tests.tiny import tiny_generator


@pytest.mark.parametrize(
    ("case", "method", "n_styles"),
    [
        ("style_transformer_r64", "style-transformer", 10),
        ("style_transformer_ffhq_r1024", "style-transformer", 18),
        ("e2style_3stages_r1024", "e2style", 18),
        ("style_transformer_edit_r32", "reference-editor", 8),
        ("style_transformer_edit_r1024", "reference-editor", 18),
    ],
)
def test_what_it_is(case: str, method: str, n_styles: int) -> None:
    what = describe(outline(case))
    assert (what.method, what.n_styles, what.input_size, what.input_channels) == (method, n_styles, (256, 256), 3)


def test_prefixes_of_data_parallel_may_be_gone() -> None:
    tree = outline("style_transformer_ffhq_r1024")
    tree["state_dict"] = {name.replace("module.", ""): tensor for name, tensor in tree["state_dict"].items()}
    assert describe(tree).method == "style-transformer"


@pytest.mark.seconds
def test_counts_of_the_papers_code() -> None:
    with torch.device("meta"):
        e2style = E2Style(E2StyleConfig(resolution=256, num_ws=18, w_dim=512, split=(9, 5, 4), backbone="ir-se-50"))
        layer = DecoderLayer(512)
        encoder = StyleTransformer(
            StyleTransformerConfig(
                resolution=256,
                num_ws=16,
                tokens=18,
                w_dim=512,
                z_dim=512,
                mapping_layers=8,
                backbone="ir-se-50",
                output_layer=False,
            )
        )
        assert encoder.offsets(torch.empty(2, 3, 192, 256)).shape == (2, 16, 512)
    counts = [sum(p.numel() for p in stage.parameters()) for stage in e2style.stages]
    assert counts == [98_028_096, 98_029_824, 98_029_824]
    assert sum(p.numel() for p in layer.parameters()) == 3_154_432
    mapping = sum(p.numel() for p in encoder.mapping.parameters())
    assert (sum(p.numel() for p in encoder.parameters()) - mapping, mapping) == (40_620_224, 2_101_248)


def test_rows_are_shared_out_as_the_paper_does() -> None:
    assert [split_rows(n) for n in (18, 16, 14, 10)] == [(9, 5, 4), (8, 4, 4), (7, 4, 3), (5, 3, 2)]
    with pytest.raises(ConfigError, match="split must share 18 rows out"):
        validate(E2StyleConfig, {"resolution": 64, "num_ws": 18, "w_dim": 8, "split": [9, 5, 3]}, "test")


def test_what_is_missing_or_does_not_fit_is_named() -> None:
    tree = outline("e2style_3stages_r1024")
    tree["opts"]["training_stage"] = 2
    with pytest.raises(WeightsRefused, match="trained to stage 2, it holds 3"):
        describe(tree)
    without = {n: t for n, t in tree["state_dict"].items() if not n.startswith("encoder_firststage")}
    with pytest.raises(WeightsRefused, match=r"without its encoder_firststage"):
        describe({"state_dict": without})
    tree = outline("style_transformer_r64")
    bare = {n: t for n, t in tree["state_dict"].items() if n.startswith("encoder.")}
    with pytest.raises(WeightsRefused, match=r"no decoder\.style"):
        open_encoder_checkpoint({"state_dict": bare, "opts": tree["opts"], "latent_avg": torch.zeros(512)})
    del tree["state_dict"]["encoder.module.z"]
    with pytest.raises(WeightsRefused, match=r"not a Style Transformer as published: expected .* encoder\.z"):
        describe(tree)


def small_e2style() -> E2Style:
    g = tiny_generator()
    torch.manual_seed(0)
    cfg = E2StyleConfig.for_generator(g, {"base_channels": 8, "pyramid_channels": 8})
    e2style = E2Style(validate(E2StyleConfig, cfg, "test"), g)
    for stage in e2style.stages:
        for head in stage.heads:
            torch.nn.init.normal_(head.linear.weight, std=0.05)
    e2style.latent_avg.copy_(g.w_mean)
    return e2style.eval().requires_grad_(False)


def test_stages_add_up_and_each_head_has_its_rows() -> None:
    e2style, images = small_e2style(), torch.rand(2, 3, 32, 32)
    codes = list(e2style.refine(images))
    assert torch.equal(e2style(images, steps=1).w, codes[0].w)
    torch.testing.assert_close(e2style(images, codes[0]).w, codes[2].w)
    for head in e2style.stages[2].heads:
        head.linear.weight.zero_()
    assert torch.equal(e2style(images).w, codes[1].w)
    e2style.stages[0].heads[2].linear.bias.fill_(1.0)  # the fine rows
    moved = e2style(images, steps=1).w
    assert torch.equal(moved[:, :6], codes[0].w[:, :6])
    assert (moved[:, 6:] != codes[0].w[:, 6:]).all()


def test_more_stages_than_there_are_is_refused() -> None:
    e2style, images = small_e2style(), torch.rand(1, 3, 32, 32)
    with pytest.raises(ConfigError, match="has 3 stages: steps can be at most 3, got 4"):
        e2style(images, steps=4)
    with pytest.raises(ConfigError, match="a given code skips the first: steps can be at most 2, got 3"):
        e2style(images, e2style(images, steps=1), steps=3)
    with pytest.raises(GeneratorMismatch, match="gives latents of 8x16, generator 'tiny' takes 6x16"):
        e2style.bind(tiny_generator(16))


def test_tokens_have_no_order_and_are_cut_after_the_transformer() -> None:
    g = tiny_generator()
    torch.manual_seed(0)
    given = {"base_channels": 8, "hidden": 16, "tokens": 10, "output_layer": False}
    encoder = StyleTransformer(
        validate(StyleTransformerConfig, StyleTransformerConfig.for_generator(g, given), "test"), g
    )
    encoder.eval().requires_grad_(False)
    images = torch.rand(2, 3, 32, 32)
    w = encoder(images).w
    assert w.shape == (2, 8, 16)
    order = torch.tensor([1, 0, 2, 3, 4, 5, 7, 6, 8, 9])
    z = encoder.z.clone()
    encoder.z.copy_(z[:, order])
    torch.testing.assert_close(encoder(images).w, w[:, order[:8]])
    encoder.z = torch.nn.Parameter(z[:, :8], requires_grad=False)
    assert (encoder(images).w - w).abs().max() > 1e-3


def test_the_classifier_alone_is_no_encoder_and_opens_as_what_it_is() -> None:
    file = "style_transformer_classifier"
    with pytest.raises(WeightsRefused, match="classifier of latents, not an encoder"):
        describe(outline(file))
    classifier = open_latent_classifier(outline(file, device="cpu"))
    assert sum(p.numel() for p in classifier.parameters()) == 20_583_464
    assert (classifier.attributes[5], classifier.attributes[39]) == ("Bangs", "Young")
    assert classifier.scores(torch.zeros(2, 18, 512))["Smiling"].shape == (2,)
    with pytest.raises(WeightsRefused, match="not a classifier of latents: expected"):
        open_latent_classifier({"state_dict": {"a": torch.zeros(1)}})
