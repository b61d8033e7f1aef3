"""Whether the faces in photos are where a generator has faces. A generator cannot reproduce faces at places where it never saw
any.

The expected place is that of the landmarks of the generator's mean image. If the mean image has no face, the generator is one
of other things, and nothing is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.generators.channels import as_rgb
from ganinv.generators.stylegan2 import Generator
from ganinv.judges.faces import SIDE, FaceDetector, FaceJudge, enlarged, face_detector

FAR, LARGER, TILTED = 0.6, 1.35, 20.0
"""How far the middle of the eyes may be from its expected place, in distances between the eyes; by what factor this distance
may differ; and by how many degrees it may be turned. Of 68 aligned photos (London, and those of the demo), all are within 0.5,
1.23 and 13 of the embedded generator's; all 32 of London's as the camera took them are smaller, by 1.39 or more."""
SHARE = 0.25
"""Share of the photos from which a difference is reported. With fewer, the detector may be wrong, or only those photos
differ."""


@dataclass(frozen=True)
class Frame:
    """Where the eyes are in an image, as fractions of its side."""

    middle: np.ndarray
    between: np.ndarray

    @classmethod
    def of(cls, landmarks: np.ndarray) -> Frame:
        """The frame of 68 landmarks [68, 2]."""
        left, right = landmarks[36:42].mean(0), landmarks[42:48].mean(0)
        return cls((left + right) / 2, right - left)

    @property
    def size(self) -> float:
        return float(np.hypot(*self.between))

    def differs(self, place: Frame) -> str:
        """Describes how the framing differs from ``place``; "" if it is about the same."""
        ratio = self.size / place.size
        turned = np.degrees(np.arctan2(*self.between[::-1]) - np.arctan2(*place.between[::-1]))
        off = float(np.hypot(*(self.middle - place.middle))) / place.size
        said = []
        if not 1 / LARGER <= ratio <= LARGER:
            said.append(f"{ratio:.2g} times as large")
        if off > FAR:
            said.append(f"{off:.1f} distances of the eyes away")
        if abs((turned + 180) % 360 - 180) > TILTED:
            said.append(f"turned by {abs((turned + 180) % 360 - 180):.0f} degrees")
        return ", ".join(said)


def about_alike(images: Tensor, generator: Generator) -> bool:
    """Whether the boxes of dlib's detector show clearly that the faces of images [N, 3, R, R] are where the generator's mean
    image has one.

    The detector alone costs a tenth of what the landmark model costs; its steps in size are 1.2. True as well if the mean image
    has no face.

    Raises:
        ConfigError: dlib is not installed.
    """
    detect = face_detector()
    mean, *boxes = [_box(detect, image) for image in enlarged(torch.cat([_mean_image(generator), images]), SIDE)]
    if mean is None:
        return True
    close = [
        box is not None and 1 / 1.25 <= box[2] / mean[2] <= 1.25 and np.hypot(*(box[:2] - mean[:2])) < 0.2 * mean[2]
        for box in boxes
    ]
    return sum(close) > (1 - SHARE) * len(boxes)


def _box(detect: FaceDetector, image: np.ndarray) -> np.ndarray | None:
    """Middle and width of the face with the highest confidence."""
    found, scores, _ = detect.run(image, 0, 0.0)
    if not scores:
        return None
    best = found[int(np.argmax(scores))]
    return np.array([(best.left() + best.right()) / 2, (best.top() + best.bottom()) / 2, best.width()])


def _mean_image(generator: Generator) -> Tensor:
    """[1, 3, SIDE, SIDE] on the CPU."""
    mean = generator.render(Code(generator.w_mean.expand(1, generator.num_ws, -1)))
    return to_side(as_rgb(mean).float().cpu())


def to_side(images: Tensor) -> Tensor:
    """Images [N, 3, R, R] at SIDE, so that those of several sizes are one batch."""
    return F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)


def generator_frame(generator: Generator, judge: FaceJudge) -> Frame | None:
    """Where a generator has the eyes; None if its mean image has no face."""
    found = judge.look(_mean_image(generator))
    return Frame.of(found.landmarks[0]) if found.found[0] else None


def misframed(images: Tensor, ids: Sequence[str], place: Frame, judge: FaceJudge) -> str:
    """A message about photos of a data set whose faces are framed differently; empty if there is nothing to report.

    Args:
        images: [N, 3, R, R] in [-1, 1], cropped as they are for inversion. ids: their N ids.
    """
    found = judge.look(images)
    there = {ids[int(n)]: Frame.of(found.landmarks[n]).differs(place) for n in np.flatnonzero(found.found)}
    other = {image_id: words for image_id, words in there.items() if words}
    if other and len(other) >= SHARE * len(ids):
        image_id, words = next(iter(other.items()))
        return (
            f"in {len(other)} of {len(ids)} photos that were looked at the face is not where the generator has it (in "
            f"{image_id!r} it is {words})"
        )
    if len(there) <= len(ids) / 2:
        return f"in {len(ids) - len(there)} of {len(ids)} photos that were looked at no face was found"
    return ""
