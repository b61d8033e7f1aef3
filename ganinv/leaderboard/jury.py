"""What judges say of an inversion, and of edits of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.errors import ConfigError
from ganinv.judges import Judge, Panel, SqueezeNet, identity_distance
from ganinv.leaderboard.protocol import LeaderboardProtocol
from ganinv.metrics import mse, ssim

Numbers = dict[str, np.ndarray]
"""Name -> [B] float; NaN where a judge has nothing to say."""


class Jury:
    """Judges of one board.

    Faces are judged where the packages of the extra ``judges`` are; without them identity and edits are left out.
    """

    def __init__(self, protocol: LeaderboardProtocol) -> None:
        self.protocol = protocol
        self.panel, self.net, self.absent = _open()

    @property
    def judges(self) -> tuple[Judge, ...]:
        """Named beside the numbers."""
        return () if self.panel is None else self.panel.judges

    @torch.no_grad()
    def fidelity(self, source: Tensor, rendered: Tensor) -> Numbers:
        """Of renderings beside their sources, both [B, 3, R, R] in [-1, 1].

        ``mse`` and ``ssim`` on clamped pixels; ``features``: distance in SqueezeNet's features; ``identity``: distance of
        dlib's descriptors, ``same``: whether it is one person's; ``grain``: see :func:`grain`.
        """
        source, rendered = source.float().clamp(-1, 1), rendered.float().clamp(-1, 1)
        out = {"mse": mse(source, rendered), "ssim": ssim(source, rendered), "grain": grain(source, rendered)}
        if self.net is not None:
            out["features"] = feature_distance(self.net, source, rendered)
        numbers = {name: value.double().cpu().numpy() for name, value in out.items()}
        if self.panel is not None:
            faces = [self.panel.judge(images.cpu()) for images in (source, rendered)]
            numbers["identity"] = identity_distance(*(each.descriptors for each in faces))
            numbers["same"] = _known(numbers["identity"], numbers["identity"] < self.protocol.same_person)
        return numbers

    @torch.no_grad()
    def edits(self, source: Tensor, rendered: Tensor, edit: Callable[[str, float], Tensor]) -> Numbers:
        """Whether an inversion can be edited into somebody who is still the person of the photo.

        For each edit of the protocol, strengths are tried until the judge sees the asked change; how far the face then is
        from the *source* is what counts. A method that keeps a face by not reacting never gets there, and one that reacts but
        never was that person is far from the source.

        Args:
            edit: (direction, strength) -> images [B, 3, R, R], rendered as the method's edits are.

        Returns:
            Per edit ``<direction>_reached`` (0 or 1), ``_strength`` and ``_identity`` (to the source, at that strength; NaN
            where it was not reached), ``_kept``: reached, and still the source's person.
        """
        if self.panel is None:
            return {}
        before, of_source = self.panel.judge(rendered.cpu()), self.panel.judge(source.cpu()).descriptors
        out: Numbers = {}
        for asked in self.protocol.edits:
            changes, distances = [np.zeros(len(source))], [identity_distance(before.descriptors, of_source)]
            for strength in self.protocol.strengths:
                after = self.panel.judge(edit(asked.direction, strength).clamp(-1, 1).cpu())
                changes.append(after.measures[asked.measure] - before.measures[asked.measure])
                distances.append(identity_distance(after.descriptors, of_source))
            found = at_change(np.array(changes), np.array(distances), (0.0, *self.protocol.strengths), asked.change)
            judged = ~np.isnan(distances[0])  # of an image without a face nothing can be said
            reached = ~np.isnan(found[0])
            out |= {
                f"{asked.direction}_reached": np.where(judged, reached, np.nan),
                f"{asked.direction}_strength": found[0],
                f"{asked.direction}_identity": found[1],
                f"{asked.direction}_kept": np.where(judged, reached & (found[1] < self.protocol.same_person), np.nan),
            }
        return out


def at_change(
    changes: np.ndarray, distances: np.ndarray, strengths: tuple[float, ...], wanted: float
) -> tuple[np.ndarray, np.ndarray]:
    """(strength, distance) [B] at which the change first is ``wanted``, between tried strengths by interpolation; NaN where it
    never is. ``changes`` and ``distances`` are [S, B]; a NaN is a rendering without a face, which ends the search."""
    strength, distance = np.full(changes.shape[1], np.nan), np.full(changes.shape[1], np.nan)
    for image in range(changes.shape[1]):
        for k in range(1, len(strengths)):
            here, before = changes[k, image], changes[k - 1, image]
            if np.isnan(here) or np.isnan(before):
                break
            if here >= wanted:
                part = (wanted - before) / (here - before)
                strength[image] = strengths[k - 1] + part * (strengths[k] - strengths[k - 1])
                distance[image] = distances[k - 1, image] + part * (distances[k, image] - distances[k - 1, image])
                break
    return strength, distance


def grain(source: Tensor, rendered: Tensor) -> Tensor:
    """Speckles: how much more energy the error has in its finest detail than the source's own finest detail, in dB [B].

    The finest detail is what a 3x3 binomial filter takes away. A blurred reconstruction has 0 (its error *is* the source's
    detail), a noisy one more.
    """
    kernel = torch.tensor([1.0, 2.0, 1.0], device=source.device)
    kernel = (kernel[:, None] * kernel / 16).expand(source.shape[1], 1, 3, 3)

    def energy(images: Tensor) -> Tensor:
        smooth = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), kernel, groups=images.shape[1])
        return (images - smooth).square().mean((1, 2, 3))

    return 10 * torch.log10((energy(rendered - source) + 1e-8) / (energy(source) + 1e-8))


def feature_distance(net: SqueezeNet, a: Tensor, b: Tensor) -> Tensor:
    """Squared difference of SqueezeNet's features, normalised over channels, mean over positions and layers: [B]. LPIPS
    without its fitted weights (Zhang et al. 2018, section 3)."""
    of_a, of_b = (net(F.interpolate(x.cpu(), size=(128, 128), mode="bilinear", antialias=True)) for x in (a, b))
    layers = [(F.normalize(of_a[name]) - F.normalize(of_b[name])).square().sum(1).mean((1, 2)) for name in of_a]
    return torch.stack(layers).mean(0)


def _known(known: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(known), np.nan, value)


def _open() -> tuple[Panel | None, SqueezeNet | None, Mapping[str, str]]:
    """The judges that are installed, and why others are not: name -> reason."""
    absent: dict[str, str] = {}
    net: SqueezeNet | None = None
    panel: Panel | None = None
    try:
        net = SqueezeNet()
    except ConfigError as error:
        absent["features"] = str(error)
    try:
        panel = Panel()
    except ConfigError as error:
        absent["identity and edits"] = str(error)
    return panel, net, absent
