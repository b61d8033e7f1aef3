"""What judges generated images during training: a critic learns from a batch and gives the generator its gradient."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ganinv.generators.discriminator import Discriminator
from ganinv.networks.imagenet import CHANNELS, ImageNetTrunk
from ganinv.training.augment import augment
from ganinv.training.parallel import agreed, average_gradients

Losses = dict[str, Tensor]
"""Scalars by name, detached."""


class Critic(Protocol):
    """One judge, a player of its training.

    Attributes:
        on_g: what its loss on G is called.
        real_logits: of the last batch of real images, for the augmentation's probability.
    """

    on_g: str
    real_logits: Tensor

    def learn(self, fake: Tensor, real: Tensor, p: float, world: int = 1) -> tuple[Tensor, Tensor, Losses]:
        """One update on generated images (detached) and as many real ones, both augmented with probability ``p``.

        Args:
            world: workers that learn together.

        Returns:
            (the gradient of the generator's loss, a mean over the batch, towards ``fake``; that loss; losses to log).
        """
        ...

    def set_lr(self, lr: float) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class DiscriminatorCritic:
    """The StyleGAN2 discriminator: non-saturating logistic loss, lazy R1 (Karras et al. 2020, appendix B).

    D's and G's gradients come from one pass over the generated batch (one-stage training, Shen et al. 2021): the logit's
    gradient towards the image is scaled per sample from D's loss to G's loss. It needs logits that do not depend on other
    samples, so the minibatch standard deviation is isolated in this pass: without that, one confident logit scales its
    neighbours' gradients up a thousand times.
    """

    on_g = "g_loss"

    def __init__(self, d: Discriminator, *, lr: float, r1_gamma: float, r1_every: int) -> None:
        self.d, self.r1_gamma, self.r1_every = d, r1_gamma, r1_every
        self.ratio = r1_every / (r1_every + 1)  # lazy regularisation correction
        self.optimizer = torch.optim.Adam(d.parameters(), lr=lr * self.ratio, betas=(0.0, 0.99**self.ratio), eps=1e-8)
        self.batches = 0
        self.real_logits = torch.zeros(1)

    def learn(self, fake: Tensor, real: Tensor, p: float, world: int = 1) -> tuple[Tensor, Tensor, Losses]:
        image = fake.detach().requires_grad_(True)
        self.optimizer.zero_grad(set_to_none=True)
        fake_logits = self.d(augment(image, p), isolate=True)
        real_logits = self.d(augment(real, p))
        loss = F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()
        loss.backward()
        self._step(world)
        assert image.grad is not None
        # d softplus(l)/dl = sigmoid(l) for D, d softplus(-l)/dl = -sigmoid(-l) for G: their ratio is -exp(-l).
        scale = -torch.exp(-fake_logits.detach().clamp(-30, 30))
        g_loss = F.softplus(-fake_logits.detach()).mean()
        losses = {"d_loss": loss.detach()}
        if self.batches % self.r1_every == 0:
            losses["r1"] = self._r1(augment(real, p), world)
        self.batches += 1
        self.real_logits = real_logits.detach()
        return image.grad * scale[:, :, None, None], g_loss, losses

    def _r1(self, images: Tensor, world: int) -> Tensor:
        """Gradient penalty on real images, weighted up for being applied every ``r1_every`` batches."""
        images = images.detach().requires_grad_(True)
        (grad,) = torch.autograd.grad(self.d(images).sum(), images, create_graph=True)
        penalty = grad.square().sum(dim=(1, 2, 3)).mean()
        self.optimizer.zero_grad(set_to_none=True)
        (penalty * (self.r1_gamma / 2 * self.r1_every)).backward()
        self._step(world)
        return penalty.detach()

    def _step(self, world: int) -> None:
        average_gradients(self.d.parameters(), world)
        self.optimizer.step()

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr * self.ratio

    def state_dict(self) -> dict[str, Any]:
        return {"d": self.d.state_dict(), "optimizer": self.optimizer.state_dict(), "batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.d.load_state_dict(state["d"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches = state["batches"]


class ProjectedCritic:
    """Small heads on frozen ImageNet features, hinge loss (Sauer et al. 2021, "Projected GANs Converge Faster")."""

    on_g = "projected_g_loss"

    def __init__(self, trunk: ImageNetTrunk, *, lr: float, precision: str = "float32") -> None:
        self.precision = precision
        self.trunk, self.heads = trunk, ProjectedHeads()
        learned = [p for p in self.heads.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(learned, lr=lr, betas=(0.0, 0.99))
        self.real_logits = torch.zeros(1)

    def to(self, device: torch.device) -> ProjectedCritic:
        self.trunk.to(device)
        self.heads.to(device)
        return self

    def learn(self, fake: Tensor, real: Tensor, p: float, world: int = 1) -> tuple[Tensor, Tensor, Losses]:
        image = fake.detach().requires_grad_(True)
        of_fake = self._features(augment(image, p))
        with torch.no_grad():
            of_real = self._features(augment(real, p))
        self.heads.fix_scales(of_fake, world)
        self.optimizer.zero_grad(set_to_none=True)
        fake_logits = self.heads([f.detach() for f in of_fake])
        real_logits = self.heads(of_real)
        loss = F.relu(1 + fake_logits).mean() + F.relu(1 - real_logits).mean()
        loss.backward()
        average_gradients(self.heads.parameters(), world)
        self.optimizer.step()
        g_loss = -self.heads(of_fake).mean()
        (gradient,) = torch.autograd.grad(g_loss, image)
        self.real_logits = real_logits.detach()
        return gradient, g_loss.detach(), {"projected_d_loss": loss.detach()}

    def _features(self, images: Tensor) -> list[Tensor]:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return [features.float() for features in self.trunk(images)]

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        return {"heads": self.heads.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])


class ProjectedHeads(nn.Module):
    """Features mixed over channels and scales by fixed random convolutions, and one learned head per scale.

    Called with the trunk's features, the finest (which would only see texture) left out. Returns all heads' logits, one per
    position of a 4x4 grid (for 64x64 images): [B, scales * 16].
    """

    scales: Tensor

    def __init__(self, channels: tuple[int, ...] = CHANNELS[1:], width: int = 64, seed: int = 0) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.across_channels = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.across_scales = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels[:-1])
        for conv in [*self.across_channels, *self.across_scales]:
            nn.init.kaiming_normal_(conv.get_parameter("weight"), nonlinearity="linear", generator=rng)
            nn.init.zeros_(conv.get_parameter("bias"))
            conv.requires_grad_(False)
        self.heads = nn.ModuleList(_head(width, halvings=len(channels) - 1 - i) for i in range(len(channels)))
        self.register_buffer("scales", torch.zeros(len(channels)))

    def fix_scales(self, features: list[Tensor], world: int = 1) -> None:
        """The first batch, of all workers, fixes each scale's size."""
        if float(self.scales[0]) == 0.0:
            self.scales.copy_(agreed(torch.stack([f.detach().std() for f in features[1:]]), world))

    def forward(self, features: list[Tensor]) -> Tensor:
        features = features[1:]
        logits: list[Tensor] = []
        mixed: Tensor | None = None
        for i in reversed(range(len(features))):
            x = self.across_channels[i](features[i] / self.scales[i])
            if mixed is not None:
                above = F.interpolate(mixed, scale_factor=2, mode="bilinear", align_corners=False)
                x = self.across_scales[i]((x + above) * 0.7)
            mixed = x
            logits.append(self.heads[i](x).flatten(1))
        return torch.cat(logits, dim=1)


def _head(width: int, halvings: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(halvings):
        layers += [spectral_norm(nn.Conv2d(width, width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
    layers += [spectral_norm(nn.Conv2d(width, width, 3, padding=1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(width, 1, 3, padding=1)))
