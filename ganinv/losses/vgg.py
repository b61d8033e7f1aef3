"""Features of VGG16 (Simonyan and Zisserman 2015) with torchvision's ImageNet weights; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.errors import ConfigError
from ganinv.networks.adopt import adopt
from ganinv.reading.checkpoint import open_checkpoint
from ganinv.reading.start import without_random_start

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
FILE = "vgg16-397923af.pth"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Vgg16(nn.Module):
    """``vgg(images [B, 3, R, R] in [-1, 1])`` gives the activations of ``layers``, named ``relu<block>_<convolution>``.

    Only the convolutions up to the last of them are there.

    Args:
        imagenet_norm: subtract the mean and divide by the deviation of ImageNet, as in training; without it, the network
            sees plain [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: tuple[str, ...], imagenet_norm: bool = True) -> None:
        super().__init__()
        self.layers, self.imagenet_norm = layers, imagenet_norm
        names = [(f"relu{b}_{i}", width) for b, block in enumerate(BLOCKS, 1) for i, width in enumerate(block, 1)]
        last = max(i for i, (name, _) in enumerate(names) if name in layers)
        self.convs = nn.ModuleDict()
        width = 3
        for name, out in names[: last + 1]:
            self.convs[name] = nn.Conv2d(width, out, 3, padding=1)
            width = out
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = (images + 1) / 2
        if self.imagenet_norm:
            x = (x - self.mean) / self.std
        out = {}
        for name, conv in self.convs.items():
            if name.endswith("_1") and name != "relu1_1":
                x = F.max_pool2d(x, 2)
            x = out[name] = F.relu(conv(x))
        return [out[name] for name in self.layers]


def open_vgg16(layers: tuple[str, ...], what: str, *, imagenet_norm: bool = True, path: Path | None = None) -> Vgg16:
    """The network from torchvision's file in torch's hub cache, frozen.

    Args:
        what: names what needs it, in the message. path: the file, if it is elsewhere.

    Raises:
        ConfigError: the file is not there.
        WeightsRefused: it is another network, damaged, or holds values that are not finite.
    """
    path = path or hub_file(FILE)
    if not path.is_file():
        raise missing(what, path)
    with without_random_start():
        vgg = Vgg16(layers, imagenet_norm)
    with open_checkpoint(str(path)) as checkpoint:
        tree = checkpoint.tree if isinstance(checkpoint.tree, dict) else {}
        rules = [(name.replace(".", r"\.") + r"\.", f"features.{i}.") for name, i in _INDEX.items()]
        unused = [name for name in tree if str(name).startswith(("features.", "classifier."))]
        return adopt(vgg, tree, rules, str(path), ignore=unused)


def hub_file(name: str) -> Path:
    """Where torch's hub keeps a file of weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def missing(what: str, path: Path) -> ConfigError:
    """The error of a distance whose weights are not there."""
    return ConfigError(
        f"{what} needs the torchvision weights {path.name} in {path.parent}; put the file there, "
        "or use distance: auto, which takes what is there (ganinv invert: --method w-projection, ganinv evaluate: --distance "
        "auto)"
    )


def _indices() -> dict[str, int]:
    """Our names of the convolutions to torchvision's numbers: each convolution has a ReLU after it, each block a pooling."""
    out, index = {}, 0
    for b, block in enumerate(BLOCKS, 1):
        for i in range(1, len(block) + 1):
            out[f"convs.relu{b}_{i}"] = index
            index += 2
        index += 1
    return out


_INDEX = _indices()
