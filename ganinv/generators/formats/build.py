"""From a description to a network, without the cost of initial values and without holding the file in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ganinv.errors import WeightsRefused
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import Discriminator, DiscriminatorConfig
from ganinv.generators.formats.parts import MAX_RESOLUTION, NOISE_SEED, Description, Part
from ganinv.generators.stylegan2 import Generator

M = TypeVar("M", bound=nn.Module)
_SLACK = 2**26  # bytes of noise maps that a file may leave out


def build_generator(description: Description, file_size: int) -> Generator:
    """The generator of a description, with noise maps drawn (seed 0) where the file has none.

    ``w_mean`` and ``w_std`` are zero where the file does not give them.
    """
    cfg = description.config
    assert isinstance(cfg, GeneratorConfig)
    _check_sizes(cfg.resolution, (*cfg.channels, cfg.z_dim, cfg.w_dim, cfg.img_channels), cfg.mapping_layers)
    optional = {"w_mean", "w_std"} | {f"synthesis.convs.{k}.noise" for k in range(cfg.num_convs)}
    optional |= {f"synthesis.convs.{k}.noise_strength" for k in range(cfg.num_convs)}
    generator = _built(lambda: Generator(cfg), description, file_size, optional)
    without = [
        name for name, _ in generator.named_buffers() if name.endswith(".noise") and name not in description.parts
    ]
    if without:
        description.notes["noise"] = f"{len(without)} noise maps drawn, seed {NOISE_SEED}"
        rng = torch.Generator().manual_seed(NOISE_SEED)
        for name in without:
            generator.get_buffer(name).normal_(generator=rng)
    for name, tensor in generator.state_dict().items():
        if name not in description.parts and name.endswith((".noise_strength", "w_mean", "w_std")):
            tensor.zero_()
    return generator


def build_discriminator(description: Description, file_size: int) -> Discriminator:
    cfg = description.config
    assert isinstance(cfg, DiscriminatorConfig)
    _check_sizes(cfg.resolution, (*cfg.channels, cfg.img_channels, cfg.std_channels), cfg.mapping_layers)
    return _built(lambda: Discriminator.from_config(cfg), description, file_size, set())


def without_initial_values() -> TorchFunctionMode:
    """Inside, ``torch.randn`` leaves memory as it is: drawing 30 million numbers that are overwritten takes seconds."""
    return _Uninitialised()


class _Uninitialised(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


def _built(make: Callable[[], M], description: Description, file_size: int, optional: set[str]) -> M:
    try:
        with torch.device("meta"):
            wanted = make().state_dict()
    except (ValidationError, ValueError, RuntimeError, OverflowError) as error:
        raise WeightsRefused(f"its tensors do not make a StyleGAN2: {error}") from error
    for name, own in wanted.items():
        part = description.parts.get(name)
        if part is None and name not in optional:
            raise WeightsRefused(f"missing: the {description.layout} file has nothing for {name}")
        if part is not None and not part.fits(own.shape):
            raise WeightsRefused(f"tensor {part.key} has shape {part.shape}, expected {tuple(own.shape)}")
    # A float16 file grows twofold; tensors that claim more are views of one another.
    total = sum(4 * own.numel() for own in wanted.values())
    if total > 4 * file_size + _SLACK:
        raise WeightsRefused(f"its networks would take {total} bytes, out of proportion to the file's {file_size}")
    with without_initial_values():
        module = make()
    fill(module, description.parts)
    return module


def fill(module: nn.Module, parts: dict[str, Part]) -> None:
    """Copy every part into the tensor of its name, one at a time."""
    state: dict[str, Tensor] = module.state_dict()
    with torch.no_grad():
        for name, part in parts.items():
            if name in state:
                state[name].copy_(part.load(state[name].shape))


def _check_sizes(resolution: int, widths: tuple[int, ...], mapping_layers: int) -> None:
    if resolution > MAX_RESOLUTION or mapping_layers > 100 or not all(1 <= n <= 2**16 for n in widths):
        raise WeightsRefused(
            f"a network of resolution {resolution} with widths {widths[:16]} and {mapping_layers} mapping layers is no StyleGAN2"
        )
