"""Zero-shot scores: real code of both libraries, on models with random weights that are small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from ganinv.config import config_path, load_yaml
from ganinv.errors import ConfigError
from ganinv.labels import Labeller, open_labeller

PROMPTS = {
    "smile": {"positive": ["a smiling person"], "negative": ["a serious person", "a sad person"]},
    "glasses": {"positive": ["glasses"], "negative": ["no glasses"], "positive_means": "wears glasses"},
}
SWAPPED = {k: {"positive": v["negative"], "negative": v["positive"]} for k, v in PROMPTS.items()}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def write(folder: Path, **config: Any) -> str:
    path = folder / "clip.yaml"
    path.write_text(yaml.safe_dump({"kind": "clip", "name": "zero-shot", **config}, sort_keys=False))
    return str(path)


def check(labeller: Labeller, swapped: Labeller, images: Tensor) -> None:
    """docs/methods/attribute-labelling.md, checks 3 and 5."""
    scores = labeller(images)
    assert list(scores) == ["smile", "glasses"]
    for name, values in scores.items():
        assert values.shape == (4,)
        assert values.std() > 0
        torch.testing.assert_close(swapped(images)[name], -values, atol=1e-4, rtol=0)
        alone = torch.cat([labeller(image[None])[name] for image in images])
        torch.testing.assert_close(alone, values, atol=1e-3, rtol=0)
    leaf = images.clone().requires_grad_()
    labeller.score(leaf)["smile"].sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() > 0
    assert labeller.attributes["glasses"].positive_means == "wears glasses"
    assert "a smiling person" in labeller.attributes["smile"].positive_means
    assert len(labeller.weights_sha256) == 64
    assert labeller.weights_sha256 == swapped.weights_sha256


@pytest.fixture
def open_clip() -> Any:
    from ganinv.losses._compat import ensure_torchvision

    ensure_torchvision()
    return pytest.importorskip("open_clip", reason="install ganinv[labellers] to run this test")


def test_open_clip(tmp_path: Path, images: Tensor, open_clip: Any) -> None:
    small = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    }
    (tmp_path / "tiny-clip.json").write_text(json.dumps(small))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    torch.manual_seed(0)
    net = open_clip.create_model("tiny-clip")
    torch.save(net.state_dict(), tmp_path / "tiny.pt")
    given = {"library": "open_clip", "model": "tiny-clip", "pretrained": "tiny.pt", "templates": ["{}", "a {}"]}
    labeller = open_labeller(write(tmp_path, **given, prompts=PROMPTS))
    check(labeller, open_labeller(write(tmp_path, **given, prompts=SWAPPED)), images)
    # The score of docs/methods/attribute-labelling.md, computed by the library's own functions.
    net.eval()
    tokens = open_clip.get_tokenizer("tiny-clip")
    with torch.no_grad():
        sides = []
        for side in (PROMPTS["smile"]["positive"], PROMPTS["smile"]["negative"]):
            texts = net.encode_text(tokens([t.format(p) for t in given["templates"] for p in side]), normalize=True)
            sides.append(torch.nn.functional.normalize(texts.mean(0), dim=0))
        seen = net.encode_image(labeller.spec.prepare(images), normalize=True)  # type: ignore[attr-defined]
    torch.testing.assert_close(labeller(images)["smile"], 100 * seen @ (sides[0] - sides[1]), atol=1e-3, rtol=1e-3)
    with pytest.raises(ConfigError, match=r"open_clip's ViT-X \(openai\) is unknown"):
        open_labeller(write(tmp_path, library="open_clip", model="ViT-X", pretrained="openai", prompts=PROMPTS))
    with pytest.raises(ConfigError, match=r"needs a \{\}"):
        open_labeller(write(tmp_path, **{**given, "templates": ["a photo"]}, prompts=PROMPTS))
    with pytest.raises(ConfigError, match="needs pretrained"):
        open_labeller(write(tmp_path, library="open_clip", model="tiny-clip", prompts=PROMPTS))


def test_open_clip_offline(tmp_path: Path, open_clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    config = load_yaml(config_path("labellers", "clip-faces")) | {"cache": str(tmp_path / "empty")}
    with pytest.raises(ConfigError, match="neither in the cache nor available"):
        open_labeller(write(tmp_path, **config))


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_transformers(tmp_path: Path, images: Tensor, family: str) -> None:
    from ganinv.losses._compat import ensure_torchvision

    ensure_torchvision()
    transformers = pytest.importorskip("transformers", reason="install ganinv[labellers] to run this test")
    folder = tmp_path / family
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**small, "vocab_size": 300, "max_position_embeddings": 64, "eos_token_id": 290, "bos_token_id": 1}
    vision = {**small, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    if family == "clip":
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
        net = transformers.CLIPModel(config)
        processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    else:
        config = transformers.SiglipConfig(text_config=text, vision_config=vision)
        net = transformers.SiglipModel(config)
        processor = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    # Two tokens of a trained model that never left its first step would all look alike.
    for parameter in net.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    net.save_pretrained(folder)
    processor.save_pretrained(folder)
    letters(transformers, folder)
    given = {"library": "transformers", "model": str(folder)}
    labeller = open_labeller(write(tmp_path, **given, prompts=PROMPTS))
    check(labeller, open_labeller(write(tmp_path, **given, prompts=SWAPPED)), images)
    assert labeller.provenance["input"]["size"] == 32


def letters(transformers: Any, folder: Path) -> None:
    """A tokenizer whose tokens are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {"<pad>": 0, "<s>": 1, "</s>": 290, **{letter: i + 3 for i, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 290)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>", model_max_length=64
    )
    fast.save_pretrained(folder)


def test_transformers_without_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganinv.losses._compat import ensure_torchvision

    ensure_torchvision()
    pytest.importorskip("transformers", reason="install ganinv[labellers] to run this test")
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="neither in the cache nor available"):
        open_labeller("siglip-faces")


@pytest.mark.parametrize(("library", "package"), [("open_clip", "open_clip_torch"), ("transformers", "transformers")])
def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, package: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(ConfigError, match=rf"package {package}.*ganinv\[labellers\]"):
        open_labeller(write(tmp_path, library=library, model="x", pretrained="y", prompts=PROMPTS))
