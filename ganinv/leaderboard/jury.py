"""What judges measure on an inversion, and on edits of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.errors import ConfigError
from ganinv.judges import FaceJudge, Judge, SqueezeNet, identity_distance, measure_faces, measure_haze
from ganinv.leaderboard.protocol import AskedEdit, LeaderboardProtocol
from ganinv.losses.distance import Distance, between
from ganinv.metrics import mse, ssim

Numbers = dict[str, np.ndarray]
"""Name -> [B] float; NaN if a judge has no answer."""
Measures = Mapping[str, np.ndarray]

REMEMBERED = 4096
"""Number of photos whose descriptors a process keeps: every method is compared with the same photos."""


class Jury:
    """The judges of one board.

    Faces are judged if the packages of the extra ``judges`` are installed; otherwise identity and edits are left out.

    Args:
        distance: what methods minimise here, to be shown beside the judges' numbers; None leaves it out.
    """

    def __init__(self, protocol: LeaderboardProtocol, distance: Distance | None = None) -> None:
        self.protocol, self.distance = protocol, distance
        self.faces, self.net, self.absent = installed()

    @property
    def judges(self) -> tuple[Judge, ...]:
        """The judges, to be named with the numbers."""
        return (*(() if self.net is None else (self.net.judge,)), *(() if self.faces is None else self.faces.judges))

    @torch.no_grad()
    def fidelity(self, source: Tensor, rendered: Tensor) -> Numbers:
        """Compare renderings with their sources, both [B, 3, R, R] in [-1, 1].

        ``mse`` and ``ssim`` are on clamped pixels; ``distance``: what methods minimise; ``features``: distance in SqueezeNet's
        features; ``identity``: distance of dlib's descriptors, ``same``: whether they belong to one person; ``grain``: see
        :func:`grain`, and ``speckled``: whether it is above the protocol's limit.
        """
        source, rendered = source.float().clamp(-1, 1), rendered.float().clamp(-1, 1)
        out = {"mse": mse(source, rendered), "ssim": ssim(source, rendered), "grain": grain(source, rendered)}
        if self.distance is not None:
            out["distance"] = between(self.distance.features(rendered), self.distance.features(source))
        if self.net is not None:
            out["features"] = feature_distance(self.net, source, rendered)
        numbers = {name: value.double().cpu().numpy() for name, value in out.items()}
        numbers["speckled"] = (numbers["grain"] > self.protocol.speckled).astype(np.float64)
        if self.faces is not None:
            numbers["identity"] = identity_distance(self._person(source), self._person(rendered))
            numbers["same"] = _where_known(numbers["identity"], numbers["identity"] < self.protocol.same_person)
        return numbers

    @torch.no_grad()
    def edits(
        self,
        source: Tensor,
        rendered: Tensor,
        edit: Callable[[str, float, Sequence[int]], Tensor],
        of_mean: Callable[[str, float], Tensor] | None = None,
    ) -> Numbers:
        """Whether an inversion can be edited while it still shows the person in the photo.

        For each edit of the protocol, strengths are tried until the judge sees the asked change. What counts is the distance of
        the face at that strength to the *source*. A method that keeps a face by not reacting never reaches the change; a method
        that reacts but did not show that person is far from the source. Pixels that were copied over another face keep the
        person but show that face's edit, which changes all pictures in the same way.

        Args:
            edit: (direction, strength, which of the B images) -> these images, rendered by the method's editing rule. Images
                that have changed by the whole range, or have lost their face, are not asked for again.
            of_mean: what an edit changes in the image of the generator's mean face, [1, 3, R, R].

        Returns:
            For each edit, ``<direction>_reached`` (0 or 1), and ``_kept``: reached, still the source's person, and the
            picture's own edit. At the asked change, NaN if it was not reached: ``_strength``, ``_side`` (mean change of other
            measures, in spreads of photographs) and ``_borrowed`` (correlation of what changed with ``of_mean``). For each
            change of the range, ``_identity_<change>``: the distance to the source there.
        """
        if self.faces is None:
            return {}
        rendered = rendered.float().clamp(-1, 1)
        of_source, before = self._person(source), self._seen(rendered)
        out: Numbers = {}
        for asked in self.protocol.edits:
            path = _Path(self.protocol, asked, of_source, *before)
            for strength in self.protocol.strengths:
                rows = path.left()
                if not rows:
                    break
                edited = edit(asked.direction, strength, rows).float().clamp(-1, 1)
                alike = None
                if of_mean is not None:
                    alike = correlation(edited - rendered[rows], of_mean(asked.direction, strength)).cpu().numpy()
                path.add(rows, *self._seen(edited), alike)
            out |= path.numbers()
        return out

    def _seen(self, images: Tensor) -> tuple[Measures, np.ndarray]:
        """Measures of the judges and descriptors [B, 128]."""
        assert self.faces is not None
        images = images.float().clamp(-1, 1).cpu()
        found = self.faces.look(images)
        return measure_faces(found) | measure_haze(images), self.faces.describe(found)

    def _person(self, images: Tensor) -> np.ndarray:
        """Descriptors [B, 128]; each image's is computed once in a process."""
        assert self.faces is not None
        images = images.float().clamp(-1, 1).cpu()
        keys = [sha256(image.contiguous().numpy()).digest() for image in images]
        new = [n for n, key in enumerate(keys) if key not in _PEOPLE]
        if new:
            some = images[torch.tensor(new)]
            _PEOPLE.update(zip((keys[n] for n in new), self.faces.describe(self.faces.look(some)), strict=True))
        rows = np.stack([_PEOPLE[key] for key in keys])
        while len(_PEOPLE) > REMEMBERED:
            _PEOPLE.popitem(last=False)
        return rows


_PEOPLE: OrderedDict[bytes, np.ndarray] = OrderedDict()


class _Path:
    """What is seen of B images along one edit, strength by strength.

    Args:
        of_source: descriptors of the photos. measures, people: of the unedited renderings.
    """

    def __init__(
        self,
        protocol: LeaderboardProtocol,
        asked: AskedEdit,
        of_source: np.ndarray,
        measures: Measures,
        people: np.ndarray,
    ) -> None:
        self.protocol, self.asked, self.of_source, self.before = protocol, asked, of_source, measures
        self.others = {name: spread for name, spread in protocol.spreads.items() if name != asked.measure}
        self.farthest = max((asked.change, *asked.changes))
        start = measures[asked.measure]
        self.changes = [start - start]  # NaN without a face
        self.apart = [identity_distance(people, of_source)]
        self.side = [np.zeros(len(start))]
        self.alike = [np.full(len(start), np.nan)]

    def left(self) -> list[int]:
        """Images with a face that have not yet changed by the whole range."""
        return [n for n, change in enumerate(self.changes[-1]) if change < self.farthest]

    def add(self, rows: Sequence[int], measures: Measures, people: np.ndarray, alike: np.ndarray | None) -> None:
        """Add what is seen of ``rows`` at the next strength. ``alike``: correlations with the mean face's change."""
        rows = list(rows)
        moved = {name: measures[name] - self.before[name][rows] for name in (*self.others, self.asked.measure)}
        beside = [np.abs(moved[name]) / spread for name, spread in self.others.items()]
        found = (
            (self.changes, moved[self.asked.measure]),
            (self.apart, identity_distance(people, self.of_source[rows])),
            (self.side, np.mean(beside, axis=0)),
            (self.alike, np.full(len(rows), np.nan) if alike is None else alike),
        )
        for kept, values in found:
            column = np.full(len(self.of_source), np.nan)
            column[rows] = values
            kept.append(column)
        if len(self.alike) == 2:
            self.alike[0] = self.alike[1]  # of no change at all it is not defined

    def numbers(self) -> Numbers:
        """The numbers that ``Jury.edits`` describes."""
        changes, apart, side, alike = (np.array(each) for each in (self.changes, self.apart, self.side, self.alike))
        strengths = (0.0, *self.protocol.strengths)[: len(changes)]
        strength, (there, beside, borrowed) = at_change(changes, (apart, side, alike), strengths, self.asked.change)
        judged, reached = apart[0], ~np.isnan(strength)  # of an image without a face nothing can be said
        own = ~(borrowed >= self.protocol.borrowed)
        name = self.asked.direction
        out = {
            f"{name}_reached": _where_known(judged, reached),
            f"{name}_kept": _where_known(judged, reached & own & (there < self.protocol.same_person)),
            f"{name}_strength": strength,
            f"{name}_side": beside,
        }
        if not np.isnan(alike).all():
            out[f"{name}_borrowed"] = borrowed
        for change in self.asked.changes:
            _, (out[f"{name}_identity_{change:g}"],) = at_change(changes, (apart,), strengths, change)
        return out


def at_change(
    changes: np.ndarray, values: Sequence[np.ndarray], strengths: tuple[float, ...], wanted: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The strength [B] at which the change first is ``wanted``, and each of ``values`` there, interpolated between tried
    strengths; NaN if the change is never reached.

    ``changes`` and ``values`` are [S, B]. A NaN is a rendering without a face, which ends the search.
    """
    strength = np.full(changes.shape[1], np.nan)
    there = [np.full(changes.shape[1], np.nan) for _ in values]
    for image in range(changes.shape[1]):
        for k in range(1, len(strengths)):
            here, before = changes[k, image], changes[k - 1, image]
            if np.isnan(here) or np.isnan(before):
                break
            if here >= wanted:
                part = (wanted - before) / (here - before)
                strength[image] = strengths[k - 1] + part * (strengths[k] - strengths[k - 1])
                for found, value in zip(there, values, strict=True):
                    found[image] = value[k - 1, image] + part * (value[k, image] - value[k - 1, image])
                break
    return strength, there


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Correlation [B] over all pixels and colours of images [B, C, R, R] with other images, or with one; 0 if one of them does
    not vary."""
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a.double(), b.double()))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-9)


def grain(source: Tensor, rendered: Tensor) -> Tensor:
    """Speckles: how much more energy the error has in the finest detail than the source itself, in dB [B].

    The finest detail is what a 3x3 binomial filter removes. A blurred reconstruction has 0 (its error *is* the source's
    detail), a sharp one less, a noisy one more. Detail as strong as the source's, but in the wrong place, has 3.
    """
    kernel = torch.tensor([1.0, 2.0, 1.0], device=source.device)
    kernel = (kernel[:, None] * kernel / 16).expand(source.shape[1], 1, 3, 3)

    def energy(images: Tensor) -> Tensor:
        smooth = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), kernel, groups=images.shape[1])
        return (images - smooth).square().mean((1, 2, 3))

    return 10 * torch.log10((energy(rendered - source) + 1e-8) / (energy(source) + 1e-8))


def feature_distance(net: SqueezeNet, a: Tensor, b: Tensor) -> Tensor:
    """Squared difference of SqueezeNet's features, normalised over channels, mean over positions and layers: [B]. This is LPIPS
    without its fitted weights (Zhang et al. 2018, section 3)."""
    of_a, of_b = (net(F.interpolate(x.cpu(), size=(128, 128), mode="bilinear", antialias=True)) for x in (a, b))
    layers = [(F.normalize(of_a[name]) - F.normalize(of_b[name])).square().sum(1).mean((1, 2)) for name in of_a]
    return torch.stack(layers).mean(0)


def _where_known(known: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(known), np.nan, value)


@lru_cache
def installed() -> tuple[FaceJudge | None, SqueezeNet | None, Mapping[str, str]]:
    """The judges that are installed, opened once in a process, and for the others: what they would measure -> why they are
    missing."""
    absent: dict[str, str] = {}
    net: SqueezeNet | None = None
    faces: FaceJudge | None = None
    try:
        net = SqueezeNet()
    except ConfigError as error:
        absent["features"] = str(error)
    try:
        faces = FaceJudge()
        _ = faces.judges  # its weights are looked for
    except ConfigError as error:
        faces, absent["identity and edits"] = None, str(error)
    return faces, net, absent
