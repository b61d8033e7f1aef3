"""The feature pyramid of pSp (Richardson et al. 2021, section 3; Lin et al. 2017): lateral 1x1 convolutions, no smoothing."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.networks.irse import IRSE50
from ganinv.networks.resnet import ResNet34


class FeaturePyramid(nn.Module):
    """From images to maps of equal width at 1/16 (coarse), 1/8 (medium) and 1/4 (fine) of their size.

    Args:
        laterals: if False, only the coarse map is given, three times: the simplified encoder of ReStyle (Alaluf et al. 2021,
            section 3.3), in which every head reads it.
    """

    def __init__(self, trunk: IRSE50 | ResNet34, *, laterals: bool = True) -> None:
        super().__init__()
        self.trunk = trunk
        self.width, medium, fine = trunk.widths
        self.lateral_medium = nn.Conv2d(medium, self.width, 1) if laterals else None
        self.lateral_fine = nn.Conv2d(fine, self.width, 1) if laterals else None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        coarse, medium, fine = self.trunk(images)
        if self.lateral_medium is None or self.lateral_fine is None:
            return coarse, coarse, coarse
        medium = _merge(coarse, self.lateral_medium(medium))
        return coarse, medium, _merge(medium, self.lateral_fine(fine))


def _merge(above: Tensor, lateral: Tensor) -> Tensor:
    # Corner-aligned, as the published weights were trained.
    return F.interpolate(above, size=lateral.shape[2:], mode="bilinear", align_corners=True) + lateral
