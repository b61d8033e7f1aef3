"""Files in the form of torchvision's VGG16 and AlexNet, with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

CONVS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}
CONVS |= {17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}


def random_vgg16(seed: int = 0) -> dict[str, torch.Tensor]:
    """Its state dict, without the classifier's large layers; activations keep their size from layer to layer."""
    return _random({index: (outputs, inputs, 3, 3) for index, (inputs, outputs) in CONVS.items()}, seed)


def random_alexnet(seed: int = 0) -> dict[str, torch.Tensor]:
    """The same of AlexNet."""
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    return _random(shapes, seed)


def _random(shapes: dict[int, tuple[int, int, int, int]], seed: int) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    state = {"classifier.6.bias": torch.zeros(1000)}
    for index, (outputs, inputs, height, width) in shapes.items():
        scale = (2 / (height * width * inputs)) ** 0.5
        state[f"features.{index}.weight"] = torch.randn(outputs, inputs, height, width, generator=rng) * scale
        state[f"features.{index}.bias"] = 0.1 * torch.randn(outputs, generator=rng)
    return state


def write_hub(home: Path, state: dict[str, torch.Tensor], name: str = "vgg16-397923af.pth") -> Path:
    """The file where torch's hub looks when ``TORCH_HOME`` is ``home``."""
    path = home / "hub/checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path
