"""From a description to a network, without the cost of initial values and without holding the file in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ganinv.errors import WeightsRefused
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import Discriminator, DiscriminatorConfig
from ganinv.generators.formats.parts import MAX_RESOLUTION, NOISE_SEED, Description, TensorPart
from ganinv.generators.stylegan2 import Generator
from ganinv.reading.machine import DAMAGE
from ganinv.reading.start import without_random_start

M = TypeVar("M", bound=nn.Module)
_SLACK = 2**22


def build_generator(description: Description, file_size: int) -> Generator:
    """The generator of a description, with noise maps drawn (seed 0) where the file has none.

    ``w_mean`` and ``w_std`` are zero where the file does not give them.
    """
    cfg = description.config
    assert isinstance(cfg, GeneratorConfig)
    optional = {"w_mean", "w_std"} | {f"synthesis.convs.{k}.noise" for k in range(cfg.num_convs)}
    optional |= {f"synthesis.convs.{k}.noise_strength" for k in range(cfg.num_convs)}
    generator = _filled(empty_generator(cfg, file_size), description, optional)
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
    return _filled(empty_discriminator(cfg, file_size), description, set())


def empty_generator(cfg: GeneratorConfig, file_size: int) -> Generator:
    """A generator without values, refused where a file of this size cannot fill it."""
    _check_sizes(cfg, file_size, dense=cfg.w_dim, inputs=cfg.z_dim, others=(cfg.img_channels, cfg.z_dim, cfg.w_dim))
    return _built(lambda: Generator(cfg))


def empty_discriminator(cfg: DiscriminatorConfig, file_size: int) -> Discriminator:
    _check_sizes(cfg, file_size, dense=cfg.cmap_dim, inputs=0, others=(cfg.img_channels, cfg.std_channels))
    return _built(lambda: Discriminator.from_config(cfg))


def _built(make: Callable[[], M]) -> M:
    try:
        with without_random_start(channels_last=True):  # the order that ``open_generator`` gives them in the end
            return make()
    except (ValidationError, *DAMAGE) as error:
        raise WeightsRefused(f"its tensors do not make a StyleGAN2: {error}") from error


def _filled(module: M, description: Description, optional: set[str]) -> M:
    for name, own in module.state_dict().items():
        part = description.parts.get(name)
        if part is None and name not in optional:
            raise WeightsRefused(f"missing: the {description.layout} file has nothing for {name}")
        if part is not None and not part.fits(own.shape):
            raise WeightsRefused(f"tensor {part.key} has shape {part.shape}, expected {tuple(own.shape)}")
    fill(module, description.parts)
    return module


def fill(module: nn.Module, parts: dict[str, TensorPart]) -> None:
    """Copy every part into the tensor of its name, one at a time."""
    state: dict[str, Tensor] = module.state_dict()
    with torch.no_grad():
        for name, part in parts.items():
            if name in state:
                part.load_into(state[name])


def _check_sizes(
    cfg: GeneratorConfig | DiscriminatorConfig, file_size: int, dense: int, inputs: int, others: tuple[int, ...]
) -> None:
    """Before any memory is asked for: plausible widths, and no more weights than the file can hold.

    A float16 file grows twofold when it is opened. Tensors that claim more are views of one another, or do not fit.
    """
    channels, layers = cfg.channels, cfg.mapping_layers
    plausible = all(1 <= n <= 2**16 for n in (*channels, *others)) and 0 <= max(cfg.c_dim, dense) <= 2**16
    if cfg.resolution > MAX_RESOLUTION or layers > 100 or not plausible:
        raise WeightsRefused(
            f"a network of resolution {cfg.resolution} with widths {(*channels, *others)[:20]}, {cfg.c_dim} classes and "
            f"{layers} mapping layers is not a StyleGAN2"
        )
    convolutions = sum(9 * (a * b + b * b) for a, b in zip((*channels[:1], *channels), channels, strict=False))
    total = 4 * (convolutions + dense * (sum(channels) + cfg.c_dim + inputs + layers * dense))
    if total > 4 * file_size + _SLACK:
        raise WeightsRefused(f"its networks would take {total} bytes, out of proportion to the file's {file_size}")
