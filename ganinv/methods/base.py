"""What all encoders share: ``encoder(images) -> Code``, the mean latent they start from, and a fingerprint."""

from __future__ import annotations

import hashlib

from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.methods.inputs import fit


class ImageEncoder(nn.Module):
    """``encoder(images [B, C, H, W] in [-1, 1]) -> Code``; ``latents(images)`` gives its w [B, num_ws, w_dim].

    An encoder predicts *offsets* to ``latent_avg`` [w_dim] or [num_ws, w_dim]. Images of any size are resized to
    ``input_size`` (height, width).
    """

    cfg: StrictModel
    latent_avg: Tensor
    input_size: tuple[int, int]
    num_ws: int
    w_dim: int

    def __init__(self, cfg: StrictModel) -> None:
        super().__init__()
        self.cfg = cfg

    def forward(self, images: Tensor) -> Code:
        return Code(w=self.latents(images))

    def latents(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] to w [B, num_ws, w_dim]."""
        return self.offsets(fit(images, self.input_size)) + self.latent_avg

    def offsets(self, images: Tensor) -> Tensor:
        """Images of ``input_size`` to what is added to ``latent_avg``: [B, num_ws, w_dim]."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """sha256 over the weights, names sorted."""
        return fingerprint_of(self)


def fingerprint_of(*modules: nn.Module, **tensors: Tensor) -> str:
    """sha256 over the weights of modules and over named tensors: names sorted, float32 bytes."""
    digest = hashlib.sha256()
    for named in (*(module.state_dict() for module in modules), tensors):
        for name, tensor in sorted(named.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
