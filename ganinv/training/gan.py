"""Training a StyleGAN2 from scratch on a small data set, on a CPU if need be.

A warm start on PCA coefficients; then critics (a projected discriminator, StyleGAN2's own, or both: see ``critics``) with
adaptive augmentation, while half of each batch stays anchored to training images. G learns with Muon, and what is saved is a
running mean. A training that starts from a smaller generator takes over every layer that it has: growth is a second training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.files import EMBEDDED, open_generator, pack_generator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.labels.features import features
from ganinv.labels.opening import open_trained
from ganinv.losses.terms import Terms
from ganinv.metrics import kid
from ganinv.networks.imagenet import ImageNetTrunk, feature_distance
from ganinv.optim.configs import AnyOptimizer, MuonConfig
from ganinv.optim.muon import Optimizers
from ganinv.training.augment import AdaptiveProbability
from ganinv.training.batches import Batch, DataConfig, Images
from ganinv.training.critics import Critic, DiscriminatorCritic, ProjectedCritic
from ganinv.training.learner import Learner, Look, Player
from ganinv.training.parallel import agreed
from ganinv.training.product import Given, Places, Product
from ganinv.training.recipe import Recipe, Schedule, Validation
from ganinv.training.step import Step
from ganinv.training.warm_start import Components, WarmStartConfig, dimensions, pyramid_loss

FITTED = 20_000  # images, at most, that components are found in
CHUNK = 256  # of these, read at once
SUBSETS = 20  # of a validation's kernel distance


class GanRecipe(Recipe):
    """Training a generator on the images of a data set. What counts images (``kimg``: thousands) counts from the end of the
    warm start."""

    makes: ClassVar[str] = "generators"
    holds_out: ClassVar[bool] = False

    kind: Literal["gan"] = "gan"
    size: int = Field(64, ge=8)
    """Height and width of the images, a power of two."""
    channels: tuple[int, ...] = (128, 128, 96, 64, 32)
    """Widths at 4, 8, 16, ... pixels; those beyond ``size`` are left out."""
    z_dim: int = Field(128, ge=1)
    w_dim: int = Field(128, ge=1)
    mapping_layers: int = Field(4, ge=1)
    warm_start: WarmStartConfig | None = None
    """Decode the training images' PCA coefficients first (see ``warm_start``)."""
    optimizer: AnyOptimizer = MuonConfig(lr=0.004, adam_lr=0.002, momentum=0.9, betas=(0.0, 0.99), mapping_scale=0.05)
    critic_lr: float = Field(0.002, gt=0)
    """Of the critics' Adam; it follows the schedule."""
    schedule: Schedule = Schedule(rampdown=0.1, floor=0.1)
    data: DataConfig = DataConfig(real_share=1.0, jitter=False)
    ema: float | None = Field(190.0, gt=0)
    ema_rampup: float = Field(0.05, gt=0)
    validation: Validation = Validation(every=250, images=1000, stop_at=2.0)
    judge: str = "portraits-64"
    """The labeller in whose features the kernel distance (KID) to the data set is measured, which a training is judged by."""
    projected_weight: float = Field(0.0, ge=0)
    """Weight of the projected discriminator's loss on G."""
    discriminator_weight: float = Field(1.0, ge=0)
    """Weight of the StyleGAN2 discriminator's loss on G; with 0 it only learns, to be a feature net later."""
    discriminator_from_kimg: float = Field(0.0, ge=0)
    """The StyleGAN2 discriminator joins then."""
    critic_rampup_kimg: float = Field(0.0, ge=0)
    """The critics' weight rises linearly over their first images: an untrained critic must not undo a warm start."""
    anchor_weight: float = Field(0.0, ge=0)
    """Half of each batch are latents of training images (their PCA coefficients), whose rendering is held to the image by
    the warm start's loss, with this weight. This keeps what the warm start learnt and costs no extra pass (the idea of Yu et
    al. 2020, "Inclusive GAN")."""
    anchor_feature_weight: float = Field(0.0, ge=0)
    """The same in ImageNet features (normalised over channels, squared differences, as LPIPS does)."""
    anchor_final: float = Field(1.0, ge=0)
    """Both anchor weights go linearly from themselves to this share of themselves over the run: W is to become a space of
    faces, and not to stay one of principal components."""
    path_weight: float = Field(0.0, ge=0)
    """Of the path length regularisation (Karras et al. 2020, section 3.2): steps in W move images equally far everywhere."""
    path_every: int = Field(8, ge=1)
    """Steps between two such penalties, each weighted up by this number."""
    r1_gamma: float = Field(0.3, ge=0)
    r1_every: int = Field(16, ge=1)
    style_mixing: float = Field(0.25, ge=0, le=1)
    ada_start: float = Field(0.0, ge=0, le=1)
    ada_target: float = 0.6
    ada_speed_kimg: float = Field(100.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> GanRecipe:
        levels = int(math.log2(self.size)) - 1
        if self.size & (self.size - 1) or levels > len(self.channels):
            raise ValueError(
                f"size must be a power of two for which channels has a width at each of 4, 8, ... pixels: up to "
                f"{2 ** (len(self.channels) + 1)} here, got {self.size}"
            )
        if self.data.real_share != 1 or self.data.degrade is not None or self.data.masks is not None:
            raise ValueError("a generator learns from real images as they are: data takes flip, jitter and cache_bytes")
        if self.needs_components and self.z_dim > dimensions(self.size):
            raise ValueError(
                f"images of {self.size} pixels have {dimensions(self.size)} components, z_dim is {self.z_dim}"
            )
        return self

    @property
    def generator_config(self) -> GeneratorConfig:
        return GeneratorConfig(
            resolution=self.size,
            channels=self.channels[: int(math.log2(self.size)) - 1],
            z_dim=self.z_dim,
            w_dim=self.w_dim,
            mapping_layers=self.mapping_layers,
        )

    @property
    def anchored(self) -> bool:
        """Whether half of each batch is held to training images."""
        return bool(self.anchor_weight or self.anchor_feature_weight)

    @property
    def needs_components(self) -> bool:
        return self.anchored or self.warm_start is not None

    @property
    def warm_steps(self) -> int:
        return self.warm_start.steps if self.warm_start is not None else 0

    def learner(self, given: Given) -> Learner:
        return GanLearner(self, given)

    def resolution(self, given: Given) -> int:
        return self.size

    def rate(self, step: int, total: int) -> float:
        if self.warm_start is None or step >= self.warm_steps:
            return self.schedule(step, total)
        return max(self.warm_start.floor, 0.5 + 0.5 * math.cos(math.pi * step / self.warm_steps))

    def phase(self, step: int) -> int:
        return int(step >= self.warm_steps)

    def optimizers(self, network: nn.Module, phase: int) -> Optimizers:
        if phase == 0 and self.warm_start is not None:
            return self.warm_start.optimizer.build(network)
        return self.optimizer.build(network)

    def check_images(self, count: int | None, sides: Callable[[], Sequence[int]] = list) -> None:
        if count is None:
            raise ConfigError("a generator learns from images: give a data set with --dataset")
        spanned = (2 * count if self.data.flip else count) - 1
        if self.needs_components and spanned < self.z_dim:
            raise ConfigError(
                f"latents are decoded from {self.z_dim} principal components, and {count} images"
                f"{' and their mirror images' if self.data.flip else ''} have {spanned}: give more images, lower z_dim, or leave "
                "out warm_start and the anchors"
            )
        if count < self.batch_size:
            raise ConfigError(
                f"{count} images are fewer than a batch of {self.batch_size}: a critic would know them by heart; give more"
            )
        smallest = min(sides(), default=self.size)
        if smallest < self.size:
            raise ConfigError(
                f"an image has {smallest} pixels a side, fewer than the {self.size} that the generator is to make, and enlarged "
                f"ones teach it blur: set size to {2 ** int(math.log2(max(smallest, 1)))}, or give larger images"
            )


class GanLearner(Learner):
    """One batch for all networks: the critics learn, and G follows what they say and its anchors.

    Args:
        given: with ``start``, a generator to start from, of this size or smaller, and its discriminator.
    """

    network: Generator

    def __init__(self, recipe: GanRecipe, given: Given) -> None:
        self.recipe, self.device = recipe, given.device
        cfg = recipe.generator_config
        self.network = _channels_last(Generator(cfg).to(self.device))
        d = _channels_last(Discriminator(recipe.size, cfg.channels).to(self.device))
        start = given.start
        assert start is None or isinstance(start, Generator)
        if start is not None and recipe.warm_start is not None:
            raise ConfigError(
                "a warm start would undo what start has learned: leave one out, with --set warm_start=null"
            )
        for torgb in self.network.synthesis.torgbs[1 if start is None else len(start.cfg.channels) :]:
            nn.init.zeros_(torgb.get_parameter("weight"))  # a new resolution starts as the upsampled image
        if start is not None:
            _take_over(start, self.network, d)
        needs_trunk = recipe.projected_weight or recipe.anchor_feature_weight
        self.trunk = ImageNetTrunk().to(self.device) if needs_trunk else None
        self.ada = AdaptiveProbability(recipe.ada_target, recipe.ada_speed_kimg)
        self.ada.p = recipe.ada_start
        self.path = PathLength()
        self.components = Components(recipe.z_dim)
        rates = {"lr": recipe.critic_lr, "r1_gamma": recipe.r1_gamma}
        self.critics: dict[str, Critic] = {"discriminator": DiscriminatorCritic(d, **rates, r1_every=recipe.r1_every)}
        if self.trunk is not None and recipe.projected_weight:
            projected = ProjectedCritic(self.trunk, lr=recipe.critic_lr, precision=recipe.precision)
            self.critics["projected"] = projected.to(self.device)
        self.players: Mapping[str, Player] = {
            **self.critics,
            "augmentation": self.ada,
            "path length": self.path,
            "components": self.components,
        }

    @property
    def d(self) -> Discriminator:
        """The StyleGAN2 discriminator."""
        critic = self.critics["discriminator"]
        assert isinstance(critic, DiscriminatorCritic)
        return critic.d

    def begin(self, images: Images | None) -> None:
        """Find the components that latents of training images are made of."""
        self.recipe.check_images(None if images is None else len(images))
        if images is None or not self.recipe.needs_components:
            return
        count = min(FITTED, len(images))
        positions = [k * len(images) // count for k in range(count)]

        def chunks() -> Iterator[Tensor]:
            for first in range(0, count, CHUNK):
                chunk, _ = images.load(positions[first : first + CHUNK])
                yield chunk
                if self.recipe.data.flip:
                    yield chunk.flip(3)

        self.components.fit(chunks())

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        # What is computed in bfloat16 says so itself; everything else is exact.
        exactly = torch.autocast(self.device.type, enabled=False)
        real = batch.images.contiguous(memory_format=torch.channels_last)
        if self.recipe.phase(step.number) == 0 and self.recipe.warm_start is not None:
            with exactly:
                rendered = self.network.synthesize(Code(w=self.network.map(self.components(real))), noise="none")
                loss = pyramid_loss(rendered, real)
            yield {"decoding": (1.0, loss)}
            return
        with exactly:
            fake = self._generate(real, step)
            terms = self._judged(fake, real, step)
            if self.recipe.anchored:
                half = len(real) // 2
                terms |= self._anchored(fake[:half], real[:half], step)
        yield terms
        if self.recipe.path_weight and self._since(step) // self.recipe.batch_size % self.recipe.path_every == 0:
            with exactly:
                penalty = self._evened(len(real), step)
            yield penalty

    def _since(self, step: Step) -> int:
        """Images of all workers since the warm start."""
        return (step.number - self.recipe.warm_steps) * self.recipe.batch_size

    def _judged(self, fake: Tensor, real: Tensor, step: Step) -> dict[str, tuple[float, Tensor]]:
        """The critics learn from a batch; their losses on it."""
        recipe, since = self.recipe, self._since(step)
        rate = recipe.rate(step.number, step.total)
        joined = int(recipe.discriminator_from_kimg * 1000)
        active = [("projected", recipe.projected_weight, since)] if "projected" in self.critics else []
        if since >= joined:
            active.append(("discriminator", recipe.discriminator_weight, since - joined))
        terms: dict[str, tuple[float, Tensor]] = {"rate": (0.0, fake.new_tensor(rate))}
        for name, weight, images in active:
            critic = self.critics[name]
            critic.set_lr(recipe.critic_lr * rate)
            towards, g_loss, losses = critic.learn(fake.detach(), real, self.ada.p, step.world)
            rampup = min(1.0, (images + recipe.batch_size) / max(recipe.critic_rampup_kimg * 1000, 1e-8))
            terms |= {key: (0.0, value) for key, value in losses.items()}
            terms[critic.on_g] = (weight * rampup, _known(g_loss, towards, fake))
        if active:
            self.ada.update(self.critics[active[0][0]].real_logits, step.world)
        return terms | {"ada_p": (0.0, fake.new_tensor(self.ada.p))}

    def _generate(self, real: Tensor, step: Step) -> Tensor:
        """A batch of fakes [B, C, R, R]; the first half are of the latents of training images, where these are anchors."""
        recipe, g, count = self.recipe, self.network, len(real)
        z = torch.randn(2, count, recipe.z_dim, generator=step.stream("latents")).to(self.device)
        if recipe.anchored:
            z[:, : count // 2] = self.components(
                real[: count // 2]
            )  # in both draws: mixing styles leaves them what they are
        rng = step.stream("mixing")
        if torch.rand((), generator=rng) < recipe.style_mixing:
            w = g.mapping(z.flatten(0, 1)).unflatten(0, (2, count))
            cut = int(torch.randint(1, g.num_ws, (), generator=rng))
            rows = [w[0, :, None].expand(-1, cut, -1), w[1, :, None].expand(-1, g.num_ws - cut, -1)]
            ws = torch.cat(rows, dim=1)
        else:
            ws = g.map(z[0])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            images = g.synthesize(Code(w=ws), noise="none")
        return images.float().contiguous(memory_format=torch.channels_last)

    def _evened(self, batch: int, step: Step) -> Terms:
        """The path length penalty: the lengths of J(w)^T y for random images y, against their running mean."""
        recipe, rng = self.recipe, step.stream("path length")
        z = torch.randn(max(1, batch // 2), recipe.z_dim, generator=rng)
        ws = self.network.map(z.to(self.device))
        images = self.network.synthesize(Code(w=ws), noise="none")
        y = torch.randn(images.shape, generator=rng).to(self.device) / math.sqrt(images.shape[2] * images.shape[3])
        (gradient,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        length = agreed(lengths.mean(), step.world)
        penalty = (lengths - self.path.update(length.item())).square().mean()
        return {"path_penalty": (recipe.path_weight * recipe.path_every, penalty), "path_length": (0.0, length)}

    def _anchored(self, fake: Tensor, real: Tensor, step: Step) -> dict[str, tuple[float, Tensor]]:
        """What fakes of training images' latents are to lower: the difference to the images."""
        recipe = self.recipe
        share = min(1.0, self._since(step) / ((step.total - recipe.warm_steps) * recipe.batch_size))
        left = 1 + (recipe.anchor_final - 1) * share
        terms = {"anchor": (recipe.anchor_weight * left, pyramid_loss(fake, real))}
        if self.trunk is not None and recipe.anchor_feature_weight:
            distance = feature_distance(self.trunk, fake, real)
            terms["anchor_features"] = (recipe.anchor_feature_weight * left, distance)
        return terms

    def look(self, seen: Tensor, target: Tensor) -> Look:
        """KID of as many samples as there are real images [N, 3, R, R], and sheets of samples nobody picked."""
        labeller, g = open_trained(self.recipe.judge).to(self.device), self.network
        z = torch.randn(len(seen), self.recipe.z_dim, generator=Step(0, 1, self.recipe.seed).stream("look"))
        samples, known = [], []
        for part, real in zip(z.split(CHUNK), seen.split(CHUNK), strict=True):
            made = g.synthesize(Code(w=g.map(part.to(self.device))), noise="none").clamp(-1, 1)
            known.append(features(labeller, real))
            samples.append((features(labeller, made), made[: 4 * self.recipe.validation.strip]))
        of_samples, of_images = np.concatenate([found for found, _ in samples]), np.concatenate(known)
        distance = kid(of_samples, of_images, SUBSETS, max(2, len(seen) // 2))  # halves, so that subsets differ
        width = self.recipe.validation.strip
        shown = [row for row in samples[0][1].split(width) if len(row) == width]
        return Look(distance.mean, tuple(shown or [samples[0][1]]), distance.std, "kid")


class PathLength:
    """The running mean of path lengths."""

    def __init__(self) -> None:
        self.mean: float | None = None

    def update(self, length: float) -> float:
        """Take one batch's mean length into account; the mean."""
        self.mean = length if self.mean is None else self.mean + 0.01 * (length - self.mean)
        return self.mean

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean = state["mean"]


class Generators(Product):
    """Generators, each with its discriminator."""

    noun = "generator"

    def open(self, places: Places, device: str) -> Given:
        if places.needed:
            raise ConfigError(f"a generator starts from no other network: leave {', '.join(places.needed)} out")
        if places.generator != EMBEDDED:
            raise ConfigError(
                f"a generator is trained, so none is taken from {places.generator!r}: to start from it, give it with --start"
            )
        if places.start is None:
            return Given(torch.device(device))
        start = open_generator(places.start, device)
        return Given(torch.device(device), start=start, fingerprints={"start": start.fingerprint})

    def pack(self, learner: Learner, given: Given, name: str, record: Mapping[str, Any]) -> dict[str, bytes]:
        assert isinstance(learner, GanLearner)
        made = Generator(learner.network.cfg)
        made.load_state_dict(learner.network.state_dict())
        made.name, made.discriminator = name, learner.d
        made.measure_w()
        return pack_generator(made, extra=dict(record))


def _known(value: Tensor, gradient: Tensor, images: Tensor) -> Tensor:
    """``value`` as a loss whose gradient towards ``images`` is known already."""
    linear = (images * gradient).sum()
    return linear - linear.detach() + value


def _channels_last(module: Any) -> Any:
    """Channels last: convolutions on a CPU are half as fast otherwise."""
    return module.to(memory_format=torch.channels_last)


@torch.no_grad()
def _take_over(start: Generator, g: Generator, d: Discriminator) -> None:
    """Every layer that a generator of this size or a smaller one has.

    Raises:
        ConfigError: it is not a smaller version of ``g``.
    """
    target = g.state_dict()
    mine = {name: tensor for name, tensor in start.state_dict().items() if not name.startswith("discriminator.")}
    odd = [name for name, tensor in mine.items() if name not in target or target[name].shape != tensor.shape]
    if odd:
        raise ConfigError(
            f"start is a generator of {start.resolution} pixels and channels {list(start.cfg.channels)}, and the recipe's has "
            f"{g.resolution} and {list(g.cfg.channels)}: give one of these widths, of this size or smaller ({odd[0]} differs)"
        )
    for name, tensor in mine.items():
        target[name].copy_(tensor)
    if start.discriminator is not None:
        _take_over_discriminator(start.discriminator, d)


def _take_over_discriminator(small: Discriminator, large: Discriminator) -> None:
    """Blocks are counted from the finest: those of the smaller network are the last ones of the larger."""
    offset = len(large.blocks) - len(small.blocks)
    target = large.state_dict()
    for name, tensor in small.state_dict().items():
        if name.startswith("blocks."):
            _, index, rest = name.split(".", 2)
            name = f"blocks.{int(index) + offset}.{rest}"
        elif name.startswith("from_rgb.") and offset:
            continue
        if name in target and target[name].shape == tensor.shape:
            target[name].copy_(tensor)
