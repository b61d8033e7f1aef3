"""A file in the form of torchvision's VGG16, with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

CONVS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}
CONVS |= {17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}


def random_vgg16(seed: int = 0) -> dict[str, torch.Tensor]:
    """Its state dict, without the classifier's large layers; activations keep their size from layer to layer."""
    rng = torch.Generator().manual_seed(seed)
    state = {"classifier.6.bias": torch.zeros(1000)}
    for index, (inputs, outputs) in CONVS.items():
        scale = (2 / (9 * inputs)) ** 0.5
        state[f"features.{index}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=rng) * scale
        state[f"features.{index}.bias"] = 0.1 * torch.randn(outputs, generator=rng)
    return state


def write_hub(home: Path, state: dict[str, torch.Tensor]) -> Path:
    """The file where torch's hub looks when ``TORCH_HOME`` is ``home``."""
    path = home / "hub/checkpoints/vgg16-397923af.pth"
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    return path
