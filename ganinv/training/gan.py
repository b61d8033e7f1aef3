"""Training a StyleGAN2 from scratch on a small data set, on a CPU if need be.

Recipe: a warm start on PCA coefficients; then critics (a projected discriminator, StyleGAN2's own, or both: see
``critics``) with adaptive augmentation, while half of each batch stays anchored to training images; exponential moving
average of G with ramp-up; growth from low to high resolution by copying the shared layers. G learns with Muon.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.networks.imagenet import ImageNetTrunk, feature_distance
from ganinv.optim.muon import MuonAdam
from ganinv.training.augment import AdaptiveProbability
from ganinv.training.critics import Critic, DiscriminatorCritic, ProjectedCritic
from ganinv.training.warm_start import WarmStartConfig, pca_latents, pyramid_loss, warm_start

M = TypeVar("M", bound=nn.Module)


class GanTrainingConfig(BaseModel):
    """A training run. Stages are (resolution, thousands of images at that resolution)."""

    model_config = ConfigDict(extra="forbid")

    channels: tuple[int, ...] = (128, 128, 96, 64, 32)
    z_dim: int = 128
    w_dim: int = 128
    mapping_layers: int = 4
    warm_start: WarmStartConfig | None = None
    """Decode the training images' PCA coefficients first, at the first stage's resolution (see ``warm_start``)."""
    stages: tuple[tuple[int, float], ...] = ((32, 40.0), (64, 300.0))
    batch_size: int = 16
    muon_lr: float = 0.004
    muon_momentum: float = 0.9
    mapping_lr_scale: float = 0.05
    lr: float = 0.002
    """Adam's learning rate: the generator's small parameters, and the critics."""
    anneal_kimg: float = 20.0
    """All learning rates fall linearly to a tenth over the last ``anneal_kimg`` of the last stage."""
    projected_weight: float = 0.0
    """Weight of the projected discriminator's loss on G."""
    discriminator_weight: float = 1.0
    """Weight of the StyleGAN2 discriminator's loss on G; with 0 it only learns, to be a feature net later."""
    discriminator_from_kimg: float = 0.0
    """The StyleGAN2 discriminator joins then."""
    critic_rampup_kimg: float = 0.0
    """The critics' weight rises linearly over their first images: an untrained critic must not undo a warm start."""
    anchor_weight: float = 0.0
    """Half of each batch are latents of training images (their PCA coefficients), whose rendering is held to the image by
    the warm start's loss, with this weight. This keeps what the warm start learnt and costs no extra pass (the idea of Yu et
    al. 2020, "Inclusive GAN")."""
    anchor_feature_weight: float = 0.0
    """The same in ImageNet features (normalised over channels, squared differences, as LPIPS does)."""
    anchor_final: float = Field(1.0, ge=0)
    """Both anchor weights go linearly from themselves to this share of themselves over the run: W is to become a space of
    faces, and not to stay one of principal components."""
    path_weight: float = Field(0.0, ge=0)
    """Of the path length regularisation (Karras et al. 2020, section 3.2): steps in W move images equally far everywhere."""
    path_every: int = Field(8, ge=1)
    """Steps between two such penalties, each weighted up by this number."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of G's and the ImageNet trunk's passes; weights, losses and optimisers are float32."""
    r1_gamma: float = 0.3
    r1_every: int = 16
    style_mixing: float = 0.25
    ema_kimg: float = 3.0
    ada_start: float = 0.0
    ada_target: float = 0.6
    ada_speed_kimg: float = 100.0
    seed: int = 0
    snapshot_kimg: float = 5.0

    def generator_config(self, resolution: int) -> GeneratorConfig:
        levels = int(math.log2(resolution)) - 1
        return GeneratorConfig(
            resolution=resolution,
            channels=self.channels[:levels],
            z_dim=self.z_dim,
            w_dim=self.w_dim,
            mapping_layers=self.mapping_layers,
        )


class GanTrainer:
    """Holds everything a run needs to go on: ``step()`` trains on one batch, ``state()`` / ``load()`` are its checkpoint.

    Args:
        images: uint8 [N, 3, R, R] at the largest resolution of the stages. Mirrored copies are drawn at random.
    """

    def __init__(self, cfg: GanTrainingConfig, images: Tensor, device: str = "cpu") -> None:
        self.cfg, self.device = cfg, torch.device(device)
        self.full_images = images
        self.g: Generator
        self.g_ema: Generator
        self.critics: dict[str, Critic]
        self.nimg = 0
        self.path_mean: float | None = None
        self.rng = torch.Generator().manual_seed(cfg.seed)
        torch.manual_seed(cfg.seed)
        self.ada = AdaptiveProbability(cfg.ada_target, cfg.ada_speed_kimg)
        self.ada.p = cfg.ada_start
        needs_trunk = cfg.projected_weight or cfg.anchor_feature_weight
        self.trunk = ImageNetTrunk().to(self.device) if needs_trunk else None
        self._build(cfg.stages[0][0])

    @property
    def d(self) -> Discriminator:
        """The StyleGAN2 discriminator."""
        critic = self.critics["discriminator"]
        assert isinstance(critic, DiscriminatorCritic)
        return critic.d

    def _build(self, resolution: int) -> None:
        """Networks and optimisers at ``resolution``, taking over every layer that the smaller networks have."""
        cfg = self.cfg
        old = (self.g, self.d, self.g_ema) if hasattr(self, "g") else None
        gcfg = cfg.generator_config(resolution)
        self.resolution = resolution
        self.g = _channels_last(Generator(gcfg).to(self.device))
        d = _channels_last(Discriminator(resolution, gcfg.channels).to(self.device))
        for torgb in self.g.synthesis.torgbs[1:] if old is None else self.g.synthesis.torgbs[-1:]:
            nn.init.zeros_(torgb.get_parameter("weight"))  # a new resolution starts as the upsampled image
        if old is not None:
            _copy_generator(old[0], self.g)
            _copy_discriminator(old[1], d)
        self.g_ema = copy.deepcopy(self.g).eval().requires_grad_(False)
        if old is not None:
            _copy_generator(old[2], self.g_ema)
        self.opt_g = MuonAdam(
            self.g,
            muon_lr=cfg.muon_lr,
            adam_lr=cfg.lr,
            momentum=cfg.muon_momentum,
            betas=(0.0, 0.99),
            mapping_scale=cfg.mapping_lr_scale,
            mapping_lr_mul=gcfg.mapping_lr_mul,
        )
        self.critics = {
            "discriminator": DiscriminatorCritic(d, lr=cfg.lr, r1_gamma=cfg.r1_gamma, r1_every=cfg.r1_every)
        }
        if self.trunk is not None and cfg.projected_weight:
            self.critics["projected"] = ProjectedCritic(self.trunk, lr=cfg.lr, precision=cfg.precision).to(self.device)
        self.images = _downscale(self.full_images, resolution)
        everything = torch.cat([self.images, self.images.flip(3)])
        self.anchors = pca_latents(everything, cfg.z_dim) if self._anchored else None

    @property
    def _anchored(self) -> bool:
        return bool(self.cfg.anchor_weight or self.cfg.anchor_feature_weight)

    def _stage_resolution(self) -> int:
        ends = accumulate(kimg * 1000 for _, kimg in self.cfg.stages)
        return next(r for (r, _), end in zip(self.cfg.stages, ends, strict=True) if self.nimg < end)

    @property
    def total_img(self) -> int:
        return int(sum(kimg for _, kimg in self.cfg.stages) * 1000)

    def warm_up(self) -> Iterator[dict[str, float]]:
        """The warm start of the configuration, if it has one; before the first ``step``."""
        if self.cfg.warm_start is not None and self.nimg == 0:
            yield from warm_start(self.g, self.images, self.cfg.warm_start)
            self.g_ema.load_state_dict(self.g.state_dict())

    def start_from(self, generator: Generator) -> None:
        """Go on from a finished generator and its discriminator (no optimiser state, image count zero)."""
        if generator.cfg.resolution != self.resolution:
            self._build(generator.cfg.resolution)
        for network in (self.g, self.g_ema):
            network.load_state_dict({n: t for n, t in generator.state_dict().items() if n in network.state_dict()})
        if generator.discriminator is not None:
            self.d.load_state_dict(generator.discriminator.state_dict())

    def step(self) -> dict[str, float]:
        """One batch for all networks. Returns losses and the state of the augmentation."""
        cfg = self.cfg
        if (resolution := self._stage_resolution()) != self.resolution:
            self._build(resolution)
        rate = min(1.0, max(0.1, (self.total_img - self.nimg) / (cfg.anneal_kimg * 1000)))
        self.opt_g.scale(rate)

        fake, anchored = self._generate()
        gradient = torch.zeros_like(fake)
        out: dict[str, float] = {}
        active = self._active()
        for name, weight, since in active:
            critic = self.critics[name]
            critic.set_lr(cfg.lr * rate)
            towards, losses = critic.learn(fake.detach(), self._real_batch, self.ada.p)
            rampup = min(1.0, (since + cfg.batch_size) / max(cfg.critic_rampup_kimg * 1000, 1e-8))
            gradient += towards * (weight * rampup)
            out |= losses
        if active:
            self.ada.update(self.critics[active[0][0]].real_logits)
        if anchored is not None:
            towards, losses = self._anchor_gradient(fake.detach(), anchored)
            gradient[: len(anchored)] += towards
            out |= losses
        self.opt_g.zero_grad()
        fake.backward(gradient)
        if cfg.path_weight and self.nimg // cfg.batch_size % cfg.path_every == 0:
            out |= self._regularise_path()
        self.opt_g.step()
        self._update_ema()
        self.nimg += cfg.batch_size
        return {"kimg": self.nimg / 1000, "ada_p": self.ada.p, "rate": rate} | out

    def _active(self) -> list[tuple[str, float, int]]:
        """(name, weight, images since it joined) of the critics that take part now; the first steers the augmentation."""
        cfg = self.cfg
        joined = int(cfg.discriminator_from_kimg * 1000)
        out = [("projected", cfg.projected_weight, self.nimg)] if "projected" in self.critics else []
        if self.nimg >= joined:
            out.append(("discriminator", cfg.discriminator_weight, self.nimg - joined))
        return out

    def _generate(self) -> tuple[Tensor, Tensor | None]:
        """A batch of fakes, and the numbers of the training images that the first half is anchored to."""
        cfg = self.cfg
        z = torch.randn(2, cfg.batch_size, cfg.z_dim, generator=self.rng)
        anchored = None
        if self.anchors is not None:
            anchored = torch.randint(len(self.anchors), (cfg.batch_size // 2,), generator=self.rng)
            z[:, : len(anchored)] = self.anchors[anchored]  # in both draws: mixing styles leaves them what they are
        z = z.to(self.device)
        if torch.rand((), generator=self.rng) < cfg.style_mixing:
            w = self.g.mapping(z.flatten(0, 1)).unflatten(0, (2, cfg.batch_size))
            cut = int(torch.randint(1, self.g.num_ws, (), generator=self.rng))
            rows = [w[0, :, None].expand(-1, cut, -1), w[1, :, None].expand(-1, self.g.num_ws - cut, -1)]
            ws = torch.cat(rows, dim=1)
        else:
            ws = self.g.map(z[0])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=cfg.precision == "bfloat16"):
            images = self.g.synthesize(Code(w=ws), noise="none")
        return images.float().contiguous(memory_format=torch.channels_last), anchored

    def _regularise_path(self) -> dict[str, float]:
        """Adds the gradients of the path length penalty to G's: the lengths of J(w)^T y for random images y, against their
        running mean."""
        cfg = self.cfg
        z = torch.randn(cfg.batch_size // 2, cfg.z_dim, generator=self.rng)
        ws = self.g.map(z.to(self.device))
        images = self.g.synthesize(Code(w=ws), noise="none")
        y = torch.randn(images.shape, generator=self.rng).to(self.device) / math.sqrt(images.shape[2] * images.shape[3])
        (gradient,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        length = lengths.mean().item()
        self.path_mean = length if self.path_mean is None else self.path_mean + 0.01 * (length - self.path_mean)
        penalty = (lengths - self.path_mean).square().mean()
        (penalty * (cfg.path_weight * cfg.path_every)).backward()
        return {"path_penalty": penalty.item(), "path_length": length}

    def _anchor_gradient(self, fake: Tensor, anchored: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Gradient of the anchors' reconstruction losses towards the first ``len(anchored)`` fakes."""
        count = len(self.images)
        targets = self.images[anchored % count].float() / 127.5 - 1
        targets = torch.where((anchored >= count)[:, None, None, None], targets.flip(3), targets).to(self.device)
        rendered = fake[: len(anchored)].clone().requires_grad_(True)
        pixels = pyramid_loss(rendered, targets)
        left = 1 + (self.cfg.anchor_final - 1) * min(1.0, self.nimg / self.total_img)
        loss, losses = pixels * self.cfg.anchor_weight * left, {"anchor": pixels.item()}
        if self.trunk is not None and self.cfg.anchor_feature_weight:
            distance = feature_distance(self.trunk, rendered, targets)
            loss = loss + distance * self.cfg.anchor_feature_weight * left
            losses["anchor_features"] = distance.item()
        (gradient,) = torch.autograd.grad(loss, rendered)
        return gradient, losses

    def _real_batch(self) -> Tensor:
        index = torch.randint(len(self.images), (self.cfg.batch_size,), generator=self.rng)
        flip = torch.rand(self.cfg.batch_size, generator=self.rng) < 0.5
        batch = self.images[index].float() / 127.5 - 1
        batch = torch.where(flip[:, None, None, None], batch.flip(3), batch)
        return batch.to(self.device, memory_format=torch.channels_last)

    @torch.no_grad()
    def _update_ema(self) -> None:
        half_life = min(self.cfg.ema_kimg * 1000, max(self.nimg, 1) * 0.05)
        beta = 0.5 ** (self.cfg.batch_size / max(half_life, 1e-8))
        for slow, fast in zip(self.g_ema.parameters(), self.g.parameters(), strict=True):
            slow.lerp_(fast, 1 - beta)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on exactly here."""
        return {
            "cfg": self.cfg.model_dump(mode="json"),
            "nimg": self.nimg,
            "resolution": self.resolution,
            "ada_p": self.ada.p,
            "path_mean": self.path_mean,
            "rng": self.rng.get_state(),
            "torch_rng": torch.get_rng_state(),
            "g": self.g.state_dict(),
            "g_ema": self.g_ema.state_dict(),
            "opt_g": self.opt_g.state_dict(),
            "critics": {name: critic.state_dict() for name, critic in self.critics.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        if state["resolution"] != self.resolution:
            self._build(state["resolution"])
        for name in ("g", "g_ema", "opt_g"):
            getattr(self, name).load_state_dict(state[name])
        for name, critic in self.critics.items():
            critic.load_state_dict(state["critics"][name])
        self.nimg, self.ada.p = state["nimg"], state["ada_p"]
        self.path_mean = state["path_mean"]
        self.rng.set_state(state["rng"])
        torch.set_rng_state(state["torch_rng"])


def train(
    trainer: GanTrainer,
    folder: Path,
    on_step: Callable[[dict[str, float]], None] = lambda _: None,
    on_snapshot: Callable[[GanTrainer], None] = lambda _: None,
) -> None:
    """Run to the end of the last stage, resuming from ``folder/checkpoint.pt`` where there is one.

    A log line (JSON) is appended to ``folder/log.jsonl`` at every snapshot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(torch.load(checkpoint, weights_only=True))
    else:
        for losses in trainer.warm_up():
            on_step(losses)
        _save(trainer, checkpoint)
    next_snapshot = trainer.nimg + trainer.cfg.snapshot_kimg * 1000
    recent: list[dict[str, float]] = []
    start, start_img = time.monotonic(), trainer.nimg
    while trainer.nimg < trainer.total_img:
        recent.append(trainer.step())
        on_step(recent[-1])
        if trainer.nimg >= next_snapshot or trainer.nimg >= trainer.total_img:
            next_snapshot += trainer.cfg.snapshot_kimg * 1000
            _save(trainer, checkpoint)
            rate = (trainer.nimg - start_img) / (time.monotonic() - start)
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(_mean(recent) | {"images_per_second": round(rate, 2)}) + "\n")
            recent = []
            on_snapshot(trainer)


def _channels_last(module: M) -> M:
    """Channels last: convolutions on a CPU are half as fast otherwise."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _save(trainer: GanTrainer, checkpoint: Path) -> None:
    partial = checkpoint.with_suffix(".tmp")
    torch.save(trainer.state(), partial)
    partial.replace(checkpoint)


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    keys = {k for row in rows for k in row}
    out = {k: sum(r[k] for r in rows if k in r) / sum(k in r for r in rows) for k in sorted(keys)}
    return {k: round(v, 5) for k, v in (out | {"kimg": rows[-1]["kimg"]}).items()}


def _downscale(images: Tensor, resolution: int) -> Tensor:
    """Box-filter uint8 images to ``resolution``."""
    if images.shape[-1] == resolution:
        return images
    return F.adaptive_avg_pool2d(images.float(), resolution).round().to(torch.uint8)


@torch.no_grad()
def _copy_generator(small: Generator, large: Generator) -> None:
    target = large.state_dict()
    for name, tensor in small.state_dict().items():
        target[name].copy_(tensor)


@torch.no_grad()
def _copy_discriminator(small: Discriminator, large: Discriminator) -> None:
    """Blocks are counted from the finest: those of the smaller network are the last ones of the larger."""
    offset = len(large.blocks) - len(small.blocks)
    target = large.state_dict()
    for name, tensor in small.state_dict().items():
        if name.startswith("blocks."):
            _, index, rest = name.split(".", 2)
            name = f"blocks.{int(index) + offset}.{rest}"
        elif name.startswith("from_rgb."):
            continue
        target[name].copy_(tensor)
