"""A classifier of latents: flattened W+ to log-odds of attributes (Hu et al. 2022, "Style Transformer")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganinv.errors import WeightsRefused
from ganinv.networks.adopt import Lazy, adopt_new, from_file


class LatentClassifier(nn.Module):
    """Two shared layers; then, for each attribute, an embedding and a log-odds that is linear in the embedding.

    Args:
        num_ws, w_dim: of the latents. attributes: their names; the original has 40.
        hidden: widths of the shared layers. embedding: width of each attribute's embedding.
    """

    def __init__(
        self,
        num_ws: int,
        w_dim: int,
        attributes: Sequence[str],
        hidden: tuple[int, int] = (2048, 512),
        embedding: int = 32,
    ) -> None:
        super().__init__()
        self.attributes = tuple(attributes)
        self.fcs = nn.ModuleList([nn.Linear(num_ws * w_dim, hidden[0]), nn.Linear(*hidden)])
        self.indep_fcs = nn.ModuleList(nn.Linear(hidden[1], embedding) for _ in attributes)
        self.output_fcs = nn.ModuleList(nn.Linear(embedding, 1) for _ in attributes)

    def forward(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """(log-odds [B, K], embeddings [B, K, E]) of w [B, num_ws, w_dim]."""
        x = w.flatten(1)
        for layer in self.fcs:
            x = F.leaky_relu(layer(x), 0.2)
        embeddings = torch.stack([layer(x) for layer in self.indep_fcs], 1)
        logits = [layer(embeddings[:, i]) for i, layer in enumerate(self.output_fcs)]
        return torch.cat(logits, 1), embeddings

    def scores(self, w: Tensor) -> Mapping[str, Tensor]:
        """Attribute -> log-odds [B], in the form that ``ClassifierGradientEditor`` takes."""
        logits, _ = self(w)
        return {name: logits[:, i] for i, name in enumerate(self.attributes)}


# fmt: off
CELEBA = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
    "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
    "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
    "Wearing_Necklace", "Wearing_Necktie", "Young",
)
# fmt: on
"""The 40 attributes of CelebA (Liu et al. 2015), in its order, which is also that of the published classifier."""


def published_names(count: int) -> tuple[str, ...]:
    """Names of a published classifier's attributes: CelebA's if there are 40, else numbers."""
    return CELEBA if count == len(CELEBA) else tuple(str(number) for number in range(count))


def open_latent_classifier(source: str | Mapping[str, Lazy]) -> LatentClassifier:
    """The frozen classifier of a published file that contains only the classifier. Nothing in the file runs.

    Args:
        source: path or fsspec URL of the file, or its state dict.

    Raises:
        WeightsRefused: it is not that network, or tensors are missing, have another shape, or are not finite.
    """
    return from_file(source, "the classifier", _adopted)


def _adopted(tree: Any, where: str) -> LatentClassifier:
    inner = tree.get("state_dict", tree) if isinstance(tree, Mapping) else tree
    if not isinstance(inner, Mapping) or not any(str(name).endswith("fcs.0.weight") for name in inner):
        raise WeightsRefused(
            f"{where} is not a classifier of latents: expected a state_dict with fcs.*, indep_fcs.*, output_fcs.*"
        )
    tensors = {str(name).removeprefix("module."): tensor for name, tensor in inner.items()}
    shared, second, own = (tensors[name].shape for name in ("fcs.0.weight", "fcs.1.weight", "indep_fcs.0.weight"))
    count = sum(name.startswith("output_fcs.") and name.endswith(".weight") for name in tensors)
    hidden = (int(shared[0]), int(second[0]))
    return adopt_new(
        lambda: LatentClassifier(1, int(shared[1]), published_names(count), hidden, int(own[0])), tensors, [], where
    )
