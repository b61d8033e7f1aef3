"""Training a StyleGAN2 from scratch on a small data set, on a CPU if need be.

Recipe: optionally a warm start, then non-saturating logistic loss and lazy R1 (StyleGAN2), adaptive discriminator
augmentation (StyleGAN2-ADA), exponential moving average of G with ramp-up, growth from low to high resolution by copying
the shared layers. The generator's and the discriminator's gradients come from one pass over the generated batch (one-stage
training, Shen et al. 2021): the logit's gradient towards the image is scaled per sample from D's loss to G's loss, which
saves a quarter of the arithmetic. It needs logits that do not depend on other samples, so the minibatch standard deviation
is isolated in this pass: without that, one confident logit scales its neighbours' gradients up a thousand times.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ganinv.code import Code
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.training.augment import AdaptiveProbability, augment
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
    batch_size: int = 32
    lr: float = 0.002
    g_lr_scale: float = 1.0
    """The generator's learning rate, relative to ``lr``: below one it stays near its warm start."""
    anchor_weight: float = 0.0
    """Half of each batch are latents of training images (their PCA coefficients), whose rendering is held to the image by
    the warm start's loss, with this weight. This keeps what the warm start learnt and costs no extra pass (the idea of Yu et
    al. 2020, "Inclusive GAN"). Without it an untrained D wrecks the warm start within 3,000 images."""
    g_rampup_kimg: float = 0.0
    """The generator's learning rate rises linearly over its first images: an untrained D must not undo a warm start."""
    anneal_kimg: float = 20.0
    """The learning rate falls linearly to a tenth over the last ``anneal_kimg`` of the last stage."""
    r1_gamma: float = 0.3
    r1_every: int = 16
    style_mixing: float = 0.5
    ema_kimg: float = 5.0
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
        self.d: Discriminator
        self.g_ema: Generator
        self.nimg = 0
        self.rng = torch.Generator().manual_seed(cfg.seed)
        torch.manual_seed(cfg.seed)
        self.ada = AdaptiveProbability(cfg.ada_target, cfg.ada_speed_kimg)
        self._build(cfg.stages[0][0])

    def _build(self, resolution: int) -> None:
        """Networks and optimisers at ``resolution``, taking over every layer that the smaller networks have."""
        cfg = self.cfg
        old: tuple[Generator, Discriminator, Generator] | None = None
        if hasattr(self, "g"):
            old = (self.g, self.d, self.g_ema)
        gcfg = cfg.generator_config(resolution)
        self.resolution = resolution
        self.g = _channels_last(Generator(gcfg).to(self.device))
        self.d = _channels_last(Discriminator(resolution, gcfg.channels).to(self.device))
        for torgb in self.g.synthesis.torgbs[1:] if old is None else self.g.synthesis.torgbs[-1:]:
            nn.init.zeros_(torgb.get_parameter("weight"))  # a new resolution starts as the upsampled image
        if old is not None:
            _copy_generator(old[0], self.g)
            _copy_discriminator(old[1], self.d)
        self.g_ema = copy.deepcopy(self.g).eval().requires_grad_(False)
        if old is not None:
            _copy_generator(old[2], self.g_ema)
        ratio = cfg.r1_every / (cfg.r1_every + 1)  # lazy regularisation correction (StyleGAN2, appendix B)
        self.opt_g = torch.optim.Adam(self.g.parameters(), lr=cfg.lr, betas=(0.0, 0.99), eps=1e-8)
        self.opt_d = torch.optim.Adam(self.d.parameters(), lr=cfg.lr * ratio, betas=(0.0, 0.99**ratio), eps=1e-8)
        self.images = _downscale(self.full_images, resolution)
        self.anchors = (
            pca_latents(torch.cat([self.images, self.images.flip(3)]), cfg.z_dim) if cfg.anchor_weight else None
        )
        self.batches = 0

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
        """One batch for both networks. Returns losses and the state of the augmentation."""
        cfg = self.cfg
        if (resolution := self._stage_resolution()) != self.resolution:
            self._build(resolution)
        lr = cfg.lr * min(1.0, max(0.1, (self.total_img - self.nimg) / (cfg.anneal_kimg * 1000)))
        for group in self.opt_g.param_groups:
            group["lr"] = (
                lr * cfg.g_lr_scale * min(1.0, (self.nimg + cfg.batch_size) / max(cfg.g_rampup_kimg * 1000, 1e-8))
            )
        for group in self.opt_d.param_groups:
            group["lr"] = lr * cfg.r1_every / (cfg.r1_every + 1)

        fake, anchored = self._generate()
        image = fake.detach().requires_grad_(True)
        self.opt_d.zero_grad(set_to_none=True)
        self.opt_g.zero_grad(set_to_none=True)
        fake_logits = self.d(augment(image, self.ada.p), isolate=True)
        real_logits = self.d(augment(self._real_batch(), self.ada.p))
        d_loss = F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()
        d_loss.backward()
        self.opt_d.step()
        assert image.grad is not None
        # d softplus(l)/dl = sigmoid(l) for D, d softplus(-l)/dl = -sigmoid(-l) for G: their ratio is -exp(-l).
        ratio = -torch.exp(-fake_logits.detach().clamp(-30, 30))
        gradient = image.grad * ratio[:, :, None, None]
        if anchored is not None:
            gradient = gradient + self._anchor_gradient(fake.detach(), anchored)
        fake.backward(gradient)
        self.opt_g.step()
        g_loss = F.softplus(-fake_logits.detach()).mean()

        r1 = self._r1() if self.batches % cfg.r1_every == 0 else None
        self._update_ema()
        self.ada.update(real_logits)
        self.batches += 1
        self.nimg += cfg.batch_size
        out = {
            "kimg": self.nimg / 1000,
            "g_loss": g_loss.item(),
            "d_loss": d_loss.item(),
            "ada_p": self.ada.p,
            "lr": lr,
        }
        return out | ({"r1": r1} if r1 is not None else {})

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
        images = self.g.synthesize(Code(w=ws), noise="none")
        return images.contiguous(memory_format=torch.channels_last), anchored

    def _anchor_gradient(self, fake: Tensor, anchored: Tensor) -> Tensor:
        """Gradient of the anchors' reconstruction loss towards the fakes; zero for those without an anchor."""
        count = len(self.images)
        targets = self.images[anchored % count].float() / 127.5 - 1
        targets = torch.where((anchored >= count)[:, None, None, None], targets.flip(3), targets).to(self.device)
        rendered = fake[: len(anchored)].clone().requires_grad_(True)
        loss = pyramid_loss(rendered, targets) * self.cfg.anchor_weight
        (gradient,) = torch.autograd.grad(loss, rendered)
        return torch.cat([gradient, torch.zeros_like(fake[len(anchored) :])])

    def _real_batch(self) -> Tensor:
        index = torch.randint(len(self.images), (self.cfg.batch_size,), generator=self.rng)
        flip = torch.rand(self.cfg.batch_size, generator=self.rng) < 0.5
        batch = self.images[index].float() / 127.5 - 1
        batch = torch.where(flip[:, None, None, None], batch.flip(3), batch)
        return batch.to(self.device, memory_format=torch.channels_last)

    def _r1(self) -> float:
        """Gradient penalty on (augmented) real images, weighted up for being applied every ``r1_every`` batches."""
        images = augment(self._real_batch(), self.ada.p).detach().requires_grad_(True)
        (grad,) = torch.autograd.grad(self.d(images).sum(), images, create_graph=True)
        penalty = grad.square().sum(dim=(1, 2, 3)).mean()
        self.opt_d.zero_grad(set_to_none=True)
        (penalty * (self.cfg.r1_gamma / 2 * self.cfg.r1_every)).backward()
        self.opt_d.step()
        return penalty.item()

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
            "batches": self.batches,
            "resolution": self.resolution,
            "ada_p": self.ada.p,
            "rng": self.rng.get_state(),
            "torch_rng": torch.get_rng_state(),
            "g": self.g.state_dict(),
            "d": self.d.state_dict(),
            "g_ema": self.g_ema.state_dict(),
            "opt_g": self.opt_g.state_dict(),
            "opt_d": self.opt_d.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        if state["resolution"] != self.resolution:
            self._build(state["resolution"])
        for name in ("g", "d", "g_ema", "opt_g", "opt_d"):
            getattr(self, name).load_state_dict(state[name])
        self.nimg, self.batches, self.ada.p = state["nimg"], state["batches"], state["ada_p"]
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
