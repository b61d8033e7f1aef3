"""All judges of faces at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ganinv.judges.faces import FaceJudge
from ganinv.judges.glasses import open_glasses_probe
from ganinv.judges.haze import measure_haze
from ganinv.judges.measures import measure_faces
from ganinv.judges.squeezenet import SqueezeNet
from ganinv.judges.weights import Judge


@dataclass(frozen=True)
class Judged:
    """What the judges say of N images.

    Args:
        measures: name -> [N], NaN if there is no face: ``face`` (0 or 1), ``glasses`` (probability), and those of
            ``measure_faces`` and ``measure_haze``.
        descriptors: whose face, [N, 128], NaN without one.
    """

    measures: dict[str, np.ndarray]
    descriptors: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """[N] bool: images in which a face was found."""
        return self.measures["face"] > 0


class Panel:
    """``Panel().judge(images)``: dlib's faces, the glasses probe, haze.

    Raises:
        ConfigError: a package or its weights are missing.
    """

    def __init__(self) -> None:
        self.net, self.faces = SqueezeNet(), FaceJudge()
        self.probe = open_glasses_probe(net=self.net)

    @property
    def judges(self) -> tuple[Judge, ...]:
        """The judges, to be named with every number."""
        return self.net.judge, *self.faces.judges, self.probe.judge

    def judge(self, images: Tensor, describe: bool = True) -> Judged:
        """Judge images [N, 3, R, R] in [-1, 1]. Descriptors are most of the work; without ``describe`` they are NaN."""
        faces = self.faces.look(images)
        measures = {"face": faces.found.astype(float), "glasses": self.probe.probability(images, faces)}
        descriptors = self.faces.describe(faces) if describe else np.full((len(images), 128), np.nan)
        return Judged(measures | measure_faces(faces) | measure_haze(images), descriptors)
