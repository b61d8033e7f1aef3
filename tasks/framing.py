"""Warn, once per run, if the faces of a data set are framed differently from the generator's. Needs a face detector."""

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
"""How many images are checked, spread over the data set."""
SIDE = 512
"""Side, in pixels, at which they are read: in a photo that is not aligned, the face may be small."""
LATEST_SECONDS = 20.0
"""They are checked after this time even if no unit is done, so that the warning does not come after minutes of tuning."""
_log = logging.getLogger("ganinv.data")


def lacks_face(image: Tensor, generator: Generator) -> bool:
    """Whether an image [1, 3, R, R] has no face although the generator's mean image has one. False without a detector."""
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
    """Checks some photos in the background of a run, once its first unit is done; until then the run needs every core.

    Nothing is checked if dlib and its landmarks (the extra ``faces``) are not installed, and no failure here ends a run.
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
        """A unit is done: the check may start."""
        self._may.set()

    def wait(self) -> None:
        """Wait until the check, and its warning, are done."""
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
    """Describes how the faces are framed differently from the generator's; "" if they are not."""
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
    """Why images are photos rather than crops of faces framed as the generator's; "" if they look like such crops.

    Checks for a few of them whether they are square and, if a detector is installed, whether the faces are where the generator
    has them.
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
