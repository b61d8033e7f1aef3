"""SqueezeNet's weights are read as they were trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.errors import DataError
from ganinv.generators.files import open_generator
from ganinv.judges import SqueezeNet, path_length, squeezenet_features

ESPRESSO, CATS = 967, range(281, 286)


def picture(name: str) -> Tensor:
    import skimage.data

    pixels = torch.from_numpy(np.array(getattr(skimage.data, name)())).permute(2, 0, 1)[None]
    return F.interpolate(pixels / 127.5 - 1, (227, 227), mode="bilinear", antialias=True)


def classify(net: SqueezeNet, images: Tensor) -> Tensor:
    """Scores of the 1000 classes [N, 1000], by the last layer, which nothing else needs."""
    return F.relu(net.layers["conv10"](net(images)["fire9"])).mean((2, 3))


def test_it_knows_a_cup_of_coffee_and_a_cat(squeezenet: SqueezeNet) -> None:
    coffee = classify(squeezenet, picture("coffee")).softmax(1)[0]
    assert coffee.argmax() == ESPRESSO
    assert coffee[ESPRESSO] > 0.99  # 0.28 of another class with red and blue swapped
    assert int(classify(squeezenet, picture("chelsea")).argmax()) in CATS


@pytest.mark.seconds
def test_features_of_any_size_and_of_nothing_else(squeezenet: SqueezeNet, people: Tensor) -> None:
    features = squeezenet_features(squeezenet, people, batch_size=1)
    assert features.shape == (2, 512)
    np.testing.assert_allclose(features, squeezenet_features(squeezenet, people), rtol=1e-4, atol=1e-2)
    assert squeezenet.judge.sha256.startswith("f286bbf4")
    with pytest.raises(DataError, match=r"got \(2, 1, 64, 64\)"):
        squeezenet(people[:, :1])


@pytest.mark.seconds
def test_path_length_is_of_the_path_and_not_of_the_step(squeezenet: SqueezeNet) -> None:
    g = open_generator("portraits-64")
    long, short = (path_length(g, squeezenet, 16, epsilon=epsilon) for epsilon in (1e-2, 1e-3))
    assert long == pytest.approx(short, rel=0.15)
    assert short > 10
