"""Pictures for the demo, out of installed packages: photos of people, and a hundred small grey faces."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ganinv.config import load_yaml
from ganinv.data.align import align_face
from ganinv.errors import DataError

_POINTS = ("left_eye", "right_eye", "mouth_left", "mouth_right")


def demo_dataset(
    folder: str | Path, size: int = 256, small_faces: Literal["framed", "tight"] = "framed", count: int = 100
) -> Path:
    """Write the demo's pictures as PNG and their sources as text; the folder, to give to ``open_dataset``.

    ``portrait-*.png`` [size, size] are aligned colour portraits. ``small-face-*.png`` [size/2, size/2] are grey faces
    of 25x25 true pixels, enlarged: they show how inversion copes with inputs far from its training data, not how good
    it is.

    Args:
        small_faces: ``framed`` gives them the frame of an aligned portrait, its rims mirrored and blurred since the
            crops end at the forehead; ``tight`` enlarges the crops as they are.
        count: of the small faces, the first so many.
    """
    target = Path(folder)
    manifest = load_yaml(Path(__file__).with_name("demo_faces.yaml"))
    try:
        target.mkdir(parents=True, exist_ok=True)
        credits = []
        faces = _small_faces(manifest["small_faces"], size // 2, small_faces, count)
        for name, image, credit in (*_portraits(manifest, size), *faces):
            image.save(target / f"{name}.png")
            credits.append(f"{name}.png: {credit}")
        (target / "SOURCES.txt").write_text("\n".join(credits) + "\n")
    except OSError as error:
        raise DataError(f"cannot write the demo's pictures to {target}: {error}. Choose another folder") from error
    return target


def demo_photos(folder: str | Path) -> Path:
    """Write colour photos with a face as they come in packages, and beside them what ``ganinv align`` can do without a detector:
    ``landmarks.csv``, with eyes and mouths found by eye. Returns the folder ``photos`` below ``folder``, to be aligned.

    ``photos/*.png``: an astronaut (scikit-image) and a naval officer (matplotlib); and the author of mahotas, where that is
    installed (the extra ``demo``).
    """
    target = Path(folder)
    manifest = load_yaml(Path(__file__).with_name("demo_faces.yaml"))["portraits"]
    lines = [",".join(["image_id", *(f"{point}_{axis}" for point in _POINTS for axis in "xy")])]
    credits = []
    try:
        (target / "photos").mkdir(parents=True, exist_ok=True)
        for name, photo in _originals().items():
            face = manifest[name]
            photo.save(target / "photos" / f"{name}.png")
            lines.append(",".join([name, *(str(value) for point in _POINTS for value in face[point])]))
            credits.append(f"{name}.png: {face['credit']}")
        (target / "landmarks.csv").write_text("\n".join(lines) + "\n")
        (target / "SOURCES.txt").write_text("\n".join(credits) + "\n")
    except OSError as error:
        raise DataError(f"cannot write the demo's photos to {target}: {error}. Choose another folder") from error
    return target / "photos"


def demo_small_faces(folder: str | Path, count: int = 6, size: int = 128) -> Path:
    """Write grey faces of 25x25 true pixels, enlarged and framed (see :func:`demo_dataset`): of the least quality that one
    meets. Returns the folder."""
    target = Path(folder)
    manifest = load_yaml(Path(__file__).with_name("demo_faces.yaml"))
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, image, _ in _small_faces(manifest["small_faces"], size, "framed", count):
            image.save(target / f"{name}.png")
    except OSError as error:
        raise DataError(f"cannot write the demo's small faces to {target}: {error}. Choose another folder") from error
    return target


def _originals() -> dict[str, Image.Image]:
    """Photos inside installed packages, RGB."""
    import matplotlib.cbook
    import skimage.data

    sample = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    with Image.open(str(sample)) as opened:
        found = {"astronaut": Image.fromarray(skimage.data.astronaut()), "grace-hopper": opened.convert("RGB")}
    package = importlib.util.find_spec("mahotas")  # nothing of it is imported
    for place in package.submodule_search_locations or () if package else ():
        path = Path(place, "demos", "data", "luispedro.jpg")
        if path.is_file():
            with Image.open(path) as opened:
                found["luis-pedro-coelho"] = opened.convert("RGB")
    return found


def _portraits(manifest: Mapping[str, Any], size: int) -> Iterator[tuple[str, Image.Image, str]]:
    originals = _originals()
    for name in ("astronaut", "grace-hopper"):
        face = manifest["portraits"][name]
        left_eye, right_eye, mouth_left, mouth_right = (face[point] for point in _POINTS)
        aligned = align_face(originals[name], left_eye, right_eye, mouth_left, mouth_right, size, supersample=4)
        yield f"portrait-{name}", aligned, face["credit"]


def _small_faces(face: Mapping[str, Any], size: int, frame: str, count: int) -> Iterator[tuple[str, Image.Image, str]]:
    import skimage.data

    left_eye, right_eye, mouth_left, mouth_right = (np.asarray(face[point]) * 8 for point in _POINTS)
    # The second hundred show no faces.
    for index, values in enumerate(skimage.data.lfw_subset()[: min(count, 100)]):
        grey = Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert("RGB")
        if frame == "framed":  # enlarged first: mirroring and blurring whole pixels would show as blocks
            large = grey.resize((200, 200), Image.Resampling.BICUBIC)
            image = align_face(large, left_eye, right_eye, mouth_left, mouth_right, size)
        else:
            image = grey.resize((size, size), Image.Resampling.BICUBIC)
        yield f"small-face-{index:03d}", image, face["credit"]
