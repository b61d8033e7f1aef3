"""A word, once per run, where the faces of a data set are not where the generator has faces, and a detector is installed."""

from __future__ import annotations

import logging
import threading

from torch import Tensor

from ganinv.data import Dataset
from ganinv.errors import GaninvError
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.store import RowError
from tasks.pool.contract import UnitReport

PHOTOS = 8
"""So many are looked at, spread over the data set."""
SIDE = 512
"""Pixels at which they are read: in a photo that is not aligned the face may be small."""
LATEST_SECONDS = 20.0
"""They are looked at then even if no unit is done: whoever tunes for a minute is to know it now."""
_log = logging.getLogger("ganinv.data")


def lacks_face(image: Tensor, generator: Generator) -> bool:
    """Whether no face is in an image [1, 3, R, R], where the generator's mean image has one and a detector is installed."""
    if not _detector_installed():
        return False
    from ganinv.judges.faces import FaceJudge
    from ganinv.judges.framing import generator_frame, to_side

    judge = FaceJudge()
    return generator_frame(generator, judge) is not None and not judge.look(to_side(image.cpu())).found[0]


def _detector_installed() -> bool:
    from ganinv.faces.dlib68 import dlib_installed  # imported after the first unit

    return dlib_installed()


class FaceLook:
    """Looks at some photos beside a run, from its first unit on: before, the run needs every core for its first images.

    Nothing is looked at where dlib and its landmarks (the extra ``faces``) are not installed, and nothing that goes wrong here
    ends a run.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._may = threading.Event()

    def begin(self, dataset: Dataset, generator: str) -> None:
        """Choose the photos; ``dataset`` may be emptied afterwards."""
        if not len(dataset):
            return
        self._thread = threading.Thread(target=self._look, args=(_sampled(dataset), generator), daemon=True)
        self._thread.start()

    def report(self, report: UnitReport) -> None:
        """A unit is there."""
        self._may.set()

    def wait(self) -> None:
        """Until the word, if any, was said."""
        self._may.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self, some: Dataset, generator: str) -> None:
        self._may.wait(LATEST_SECONDS)
        try:
            words = _misframed(some, generator) if _detector_installed() else ""
        except (GaninvError, RuntimeError, OSError) as error:
            _log.debug("the faces were not looked at: %s", error)
            return
        if words:
            _log.warning(
                "%s: it will be inverted badly. Align photos first, as the generator's training images were: ganinv align PHOTOS "
                "--store STORE, then ganinv invert --dataset STORE/aligned/faces",
                words,
            )


def _misframed(some: Dataset, generator: str) -> str:
    """How the faces lie elsewhere than the generator's, in words."""
    from ganinv.judges.faces import FaceJudge
    from ganinv.judges.framing import about_alike, generator_frame, misframed, to_side

    loaded, opened = some.load(some.ids, SIDE), open_generator(generator)
    images = to_side(loaded.images)
    if not loaded.ids or about_alike(images, opened):
        return ""
    judge = FaceJudge()
    place = generator_frame(opened, judge)
    return misframed(images, loaded.ids, place, judge) if place is not None else ""


def unaligned(dataset: Dataset, generator: str) -> str:
    """Why images are photos rather than crops of faces framed as the generator's, in words; "" where they look like such crops.

    Some are looked at: whether they are square, and, where a detector is installed, whether the faces are where the generator has
    them.
    """
    some = _sampled(dataset)
    shapes = [photo.image.size for photo in some.photos(some.ids) if not isinstance(photo, RowError)]
    oblong = sum(width != height for width, height in shapes)
    if oblong:
        return f"{oblong} of {len(shapes)} images that were looked at are not square"
    return _misframed(some, generator) if _detector_installed() else ""


def _sampled(dataset: Dataset) -> Dataset:
    """At most ``PHOTOS`` images, spread evenly over the data set."""
    step = max(1, len(dataset) // PHOTOS)
    return Dataset(dataset.place, {image_id: dataset.sources[image_id] for image_id in dataset.ids[::step][:PHOTOS]})
