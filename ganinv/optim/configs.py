"""Optimisers of networks, by configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from ganinv.config import StrictModel
from ganinv.optim.muon import MuonAdam, Optimizers
from ganinv.optim.ranger import Ranger


class MuonConfig(StrictModel):
    """Muon for filters and matrices, Adam for the rest (``optim.muon``)."""

    kind: Literal["muon"] = "muon"
    lr: float = Field(0.01, gt=0)
    """Size of a step relative to the weight."""
    adam_lr: float = Field(5e-4, gt=0)
    """Adam's, for biases, norms and small weights."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Muon's."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's."""
    mapping_scale: float = Field(1.0, gt=0)
    """Factor on the rates of a generator's mapping network, whose weights all latents share."""

    def build(self, network: nn.Module) -> Optimizers:
        shape = getattr(network, "cfg", None)
        return MuonAdam(
            network,
            muon_lr=self.lr,
            adam_lr=self.adam_lr,
            momentum=self.momentum,
            betas=self.betas,
            mapping_scale=self.mapping_scale,
            mapping_lr_mul=getattr(shape, "mapping_lr_mul", 1.0),
        )


class AdamConfig(StrictModel):
    """Adam for all parameters."""

    kind: Literal["adam"] = "adam"
    lr: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)
    """Apart from the gradient (AdamW, Loshchilov and Hutter 2019)."""

    def build(self, network: nn.Module) -> Optimizers:
        from torch.optim import Adam, AdamW

        learned = [p for p in network.parameters() if p.requires_grad]
        if self.weight_decay:
            return Optimizers([AdamW(learned, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)])
        return Optimizers([Adam(learned, lr=self.lr, betas=self.betas)])


class RangerConfig(StrictModel):
    """Ranger, as the published encoders were trained (``optim.ranger``)."""

    kind: Literal["ranger"] = "ranger"
    lr: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.95, 0.999)

    def build(self, network: nn.Module) -> Optimizers:
        return Optimizers([Ranger([p for p in network.parameters() if p.requires_grad], lr=self.lr, betas=self.betas)])


class SgdConfig(StrictModel):
    """Stochastic gradient descent with momentum, as segmentation networks are trained."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)

    def build(self, network: nn.Module) -> Optimizers:
        from torch.optim import SGD

        learned = [p for p in network.parameters() if p.requires_grad]
        return Optimizers([SGD(learned, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)])


AnyOptimizer = Annotated[MuonConfig | AdamConfig | RangerConfig | SgdConfig, Field(discriminator="kind")]
