"""``NetworkLabeller``: any network that gives a row of numbers per image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ganinv.labels.base import Attribute, Labeller
from ganinv.labels.inputs import InputSpec
from ganinv.labels.outputs import Numbers, Output, side_by_side


class NetworkLabeller(Labeller):
    """A frozen network with what comes before it (``spec``) and after it (``outputs``).

    Args:
        net: images as ``spec`` prepares them to outputs [B, K]; put into evaluation mode, so that an image's scores do
            not depend on the images beside it.
        outputs: attribute -> where its score is. numbers: what the outputs are.
        attributes: for the record; by default what ``outputs`` say.
        differentiable: False for networks that run outside torch.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        version: int,
        weights_sha256: str,
        spec: InputSpec,
        outputs: Mapping[str, Output],
        numbers: Numbers = "logits",
        attributes: Mapping[str, Attribute] | None = None,
        description: Mapping[str, Any] | None = None,
        differentiable: bool = True,
    ) -> None:
        described = {key: output.attribute(key, numbers) for key, output in outputs.items()}
        super().__init__(
            name=name,
            version=version,
            attributes=attributes or described,
            weights_sha256=weights_sha256,
            description={"input": spec.model_dump(mode="json"), **(description or {})},
        )
        self.net = net.eval()
        for parameter in net.parameters():  # scripted modules have no requires_grad_ of their own
            parameter.requires_grad_(False)
        self.spec, self.outputs, self.numbers = spec, dict(outputs), numbers
        self.differentiable = differentiable

    def score(self, images: Tensor | None, ids: Sequence[str] | None = None) -> dict[str, Tensor]:
        given = self.net(self.spec.prepare(self.checked(images)))
        rows = side_by_side(given, self.outputs, self.identity)
        return {name: output.read(rows, self.numbers) for name, output in self.outputs.items()}

    def to(self, device: torch.device | str) -> NetworkLabeller:
        self.net.to(device)
        return self


def module_sha256(net: nn.Module) -> str:
    """sha256 over a module's tensors: names sorted, shapes, bytes. For weights that a library keeps in its own cache."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
