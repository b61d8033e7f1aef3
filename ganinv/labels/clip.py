"""Zero-shot scores from a model of images and texts (CLIP, SigLIP), by a pair of prompts per attribute.

score = 100 * (cos(image, positive) - cos(image, negative)), where a side is the normalised mean of the normalised embeddings
of all its prompts in all templates (Radford et al. 2021, "prompt ensembling"). 100 is CLIP's own scale of cosines, so this is
the difference of two of its logits. SigLIP's bias cancels. Good for any domain, noisy on fine attributes: the tails are what
is worth using.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.labels.architectures import first_line
from ganinv.labels.graphs import INSTALL
from ganinv.labels.inputs import InputSpec
from ganinv.labels.network import module_sha256
from ganinv.losses._compat import ensure_torchvision
from ganinv.reading.fetch import fetch

SCALE = 100.0


class Prompts(StrictModel):
    """What an attribute looks like and what its absence does, in words that fit the templates' ``{}``."""

    positive: tuple[str, ...] = Field(min_length=1)
    negative: tuple[str, ...] = Field(min_length=1)
    positive_means: str = ""


class TextImageModel(NamedTuple):
    """A loaded model, whatever the library. ``images`` takes prepared images [B, 3, S, S], ``texts`` a list of texts;
    both give embeddings [B, D] of any length."""

    net: nn.Module
    images: Callable[[Tensor], Tensor]
    texts: Callable[[list[str]], Tensor]
    spec: InputSpec
    sha256: str


class ClipScorer(nn.Module):
    """Prepared images [B, 3, S, S] to scores [B, K], one per attribute. The texts are embedded once."""

    axes: Tensor

    def __init__(self, model: TextImageModel, prompts: Mapping[str, Prompts], templates: Sequence[str]) -> None:
        super().__init__()
        self.net = model.net.eval().requires_grad_(False)
        self._embed = model.images
        with torch.no_grad():
            sides = [
                [
                    _mean_direction(model.texts([t.format(p) for t in templates for p in side]))
                    for side in sides_of(pair)
                ]
                for pair in prompts.values()
            ]
        self.register_buffer("axes", torch.stack([positive - negative for positive, negative in sides]))

    def forward(self, images: Tensor) -> Tensor:
        return SCALE * F.normalize(self._embed(images), dim=1) @ self.axes.T


def sides_of(pair: Prompts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(positive, negative)."""
    return pair.positive, pair.negative


def _mean_direction(embeddings: Tensor) -> Tensor:
    return F.normalize(F.normalize(embeddings.float(), dim=1).mean(0), dim=0)


def open_open_clip(model: str, pretrained: str, cache: str | None = None) -> TextImageModel:
    """A model of the ``open_clip`` library.

    Args:
        model: such as ``ViT-B-32``. pretrained: a tag of its published weights (``laion2b_s34b_b79k``), kept in the
            library's cache, or a checkpoint file at any URL.
        cache: folder for published weights; None is the library's own.

    Raises:
        ConfigError: not installed, unknown, or neither cached nor available.
    """
    ensure_torchvision()
    try:
        import open_clip
    except ImportError as error:
        raise ConfigError(f"library: open_clip needs the package open_clip_torch: {INSTALL}") from error
    source = pretrained
    if "/" in pretrained or pretrained.endswith((".pt", ".bin", ".safetensors")):
        source = fetch(pretrained).path
    try:
        net, _, _ = open_clip.create_model_and_transforms(model, pretrained=source, cache_dir=cache)
        tokenizer = open_clip.get_tokenizer(model)
    except Exception as error:  # its hub client raises many kinds
        raise ConfigError(_unavailable(f"open_clip's {model} ({pretrained})", error)) from error
    cfg = open_clip.get_model_preprocess_cfg(net)
    size = cfg["size"] if isinstance(cfg["size"], int) else cfg["size"][0]
    kernel = "bicubic" if cfg.get("interpolation") == "bicubic" else "bilinear"
    spec = InputSpec(size=size, mean=tuple(cfg["mean"]), std=tuple(cfg["std"]), resize=kernel)  # type: ignore[arg-type]

    def texts(lines: list[str]) -> Tensor:
        return net.encode_text(tokenizer(lines))

    return TextImageModel(net, net.encode_image, texts, spec, module_sha256(net))


def open_transformers(model: str) -> TextImageModel:
    """A CLIP or SigLIP model of the ``transformers`` library: a name of the Hugging Face hub, or a folder.

    Code that comes with a model is never run (``trust_remote_code`` stays off).

    Raises:
        ConfigError: not installed, of another kind, or neither cached nor available.
    """
    ensure_torchvision()
    try:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
    except ImportError as error:
        raise ConfigError(f"library: transformers needs the package transformers: {INSTALL}") from error
    try:
        net = AutoModel.from_pretrained(model)
        tokenizer = AutoTokenizer.from_pretrained(model)
        processor = AutoImageProcessor.from_pretrained(model)
    except Exception as error:  # OSError when offline, and a dozen others
        raise ConfigError(_unavailable(f"transformers' {model}", error)) from error
    if not hasattr(net, "get_image_features") or not hasattr(net, "get_text_features"):
        raise ConfigError(f"{model} is a {type(net).__name__}, expected a model of images and texts (CLIP, SigLIP)")
    # SigLIP was trained on texts padded to one length and without a mask; CLIP reads the end-of-text token.
    padding = "max_length" if "siglip" in str(net.config.model_type) else True

    def texts(lines: list[str]) -> Tensor:
        tokens = tokenizer(lines, padding=padding, truncation=True, return_tensors="pt")
        return _features(net.get_text_features(**tokens))

    def images(batch: Tensor) -> Tensor:
        return _features(net.get_image_features(pixel_values=batch))

    size = processor.size
    side = size.get("shortest_edge") or size.get("height")
    kernel = "bicubic" if int(getattr(processor, "resample", 3)) == 3 else "bilinear"
    spec = InputSpec(size=side, mean=tuple(processor.image_mean), std=tuple(processor.image_std), resize=kernel)  # type: ignore[arg-type]
    return TextImageModel(net, images, texts, spec, module_sha256(net))


def _features(output: Any) -> Tensor:
    """Releases of transformers differ: a tensor, or a record with the pooled output."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _unavailable(what: str, error: BaseException) -> str:
    return (
        f"{what} is unknown, or neither in the cache nor available ({first_line(error)}); run once with network access, set "
        "HF_HOME to a cache that has it, or give the path of its files"
    )
