"""A photo that somebody brought: decoded, its face cut out, inverted, and the edited face put back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from threading import Lock
from typing import Literal

from PIL import Image

from flows.studio.shelf import Shelf
from flows.studio.subject import Subject
from ganinv.config import config_names, offered, validate
from ganinv.data.decode import decode_image
from ganinv.data.png import png_of
from ganinv.data.resize import to_resolution
from ganinv.errors import ConfigError, DataError
from ganinv.faces import Face, align, open_detector, paste
from ganinv.generators.channels import as_channels
from ganinv.losses.choosing import chosen
from ganinv.methods.base import Inverter
from ganinv.methods.files import inverter_described, open_inverter
from ganinv.methods.registry import INVERTERS
from ganinv.records import CodeReader
from ganinv.records.origin import inverters_origin
from ganinv.stages.method import Method, MethodConfig, method_config, open_method
from ganinv.target import Target

Framing = Literal["face", "whole"]
CROP = 256
"""Pixels of a crop's side, at least: what is saved, and what inverters that read more than the generator makes are shown."""


@dataclass(frozen=True)
class Upload:
    """A photo and the square that was cut out of it.

    Args:
        image_id: made from its name and content. photo: upright, RGB, whole. crop: RGB, square. face: where it was.
    """

    image_id: str
    photo: Image.Image = field(repr=False)
    crop: Image.Image = field(repr=False)
    face: Face = field(repr=False)

    def png(self) -> bytes:
        """The crop as a file. Equal crops give equal bytes."""
        return png_of(self.crop)

    def pasted(self, before: Image.Image, after: Image.Image) -> Image.Image:
        """The whole photo with the change from one rendering to the other; of the photo's size."""
        return paste(self.photo, after, self.face.quad, before=before)


def read_upload(data: bytes, name: str, framing: Framing = "face", side: int = CROP) -> Upload:
    """Decode a file and cut out what is to be inverted.

    Args:
        name: the file's, for its suffix and for the id. framing: the largest face, as FFHQ frames it, or the middle of the
            picture. side: of the crop.

    Raises:
        ImageRefused: no image, or one that is too large or damaged. FaceRefused: no face, or too small a one.
        ConfigError: no detector is installed.
    """
    path = PurePath(name.replace("\\", "/"))
    photo = decode_image(data, suffix=path.suffix.lower())
    detector = open_detector("dlib" if framing == "face" else "centre")
    found = align(photo, detector, size=max(side, CROP))[0]
    plain = re.sub(r"[^\w-]+", "-", path.stem).strip("-")[:40] or "photo"
    return Upload(f"{plain}-{hashlib.sha256(data).hexdigest()[:8]}", photo, found.crop, found.face)


class Inverting:
    """The methods that can be used here: those whose inverters ship with the generator, or lie in the store."""

    def __init__(self, shelf: Shelf, encoders: Mapping[str, str] | None = None) -> None:
        self._shelf, self._places = shelf, dict(encoders or {})
        self._inverters: dict[str, Inverter] = {}
        self._methods: dict[str, Method] = {}
        self._lock = Lock()  # a method keeps things of the batch it is at
        self.at_once, self.on_request = self._usable()

    @property
    def default(self) -> str:
        """What a photo is inverted by as soon as it is there."""
        return (*self.at_once, *self.on_request)[0]

    def invert(self, upload: Upload, name: str) -> Subject:
        """The inversion of an upload. It is not written anywhere.

        Raises:
            ConfigError: an unknown method. DataError: an image that cannot be inverted. WeightsRefused: an inverter.
        """
        if name not in (*self.at_once, *self.on_request):
            raise ConfigError(
                f"method {name!r} is not available here; there are: {', '.join(self.at_once + self.on_request)}"
            )
        generator = self._shelf.generator
        with self._lock:
            method = self._method(name)
            channels, side = generator.img_channels, method.photo_side
            images = as_channels(to_resolution(upload.crop, generator.resolution)[None], channels)
            photos = None if side is None else as_channels(to_resolution(upload.crop, side)[None], channels)
            inversion = method.invert(Target(images, ids=[upload.image_id], photos=photos))
        if inversion.error[0] is not None:
            raise DataError(f"{name} could not invert this photo: {inversion.error[0]}")
        opened = {each: method.context.inverter(each) for each in method.cfg.inverters}
        origin = inverters_origin(opened, method.cfg.stages, self._shelf.store)
        latents = collection_of(name)
        reader = CodeReader(self._shelf.store, self._shelf.store.latents[latents], generator, origin=origin)
        facts = {key: values[0] for key, values in inversion.metrics.items()} | {"seconds": round(inversion.seconds, 2)}
        seen = images if photos is None else photos
        return Subject(
            upload.image_id,
            latents,
            name,
            inversion.code.to("cpu"),
            generator,
            reader,
            seen,
            upload.crop,
            facts,
            unsaved=True,
        )

    def _method(self, name: str) -> Method:
        if name not in self._methods:
            picked = chosen(method_config(name).model_dump(mode="json"), self._shelf.generator)
            cfg = validate(MethodConfig, picked, f"method {name}")
            self._methods[name] = open_method(cfg, self._shelf.generator, open_inverter=self._inverter)
        return self._methods[name]

    def _inverter(self, name: str) -> Inverter:
        """Opened once, for all methods."""
        if name not in self._inverters:
            place = self._places.get(name, name)
            self._inverters[name] = open_inverter(place, generator=self._shelf.generator, store=self._shelf.store)
        return self._inverters[name]

    def _usable(self) -> tuple[list[str], list[str]]:
        quick: list[str] = []
        slow: list[str] = []
        on_request = offered("on_request")
        for name in dict.fromkeys((*offered("at_once"), *config_names("methods"), *on_request)):
            cfg = method_config(name)
            if (cfg.single_pass or name in on_request) and all(map(self._takes_photos, cfg.inverters)):
                (quick if cfg.single_pass else slow).append(name)
        return quick, sorted(slow, key=on_request.index)

    def _takes_photos(self, name: str) -> bool:
        """Whether there is an inverter of this name, for this generator, that reads whole photos. Opens none: that takes long."""
        if name in self._places:
            return True
        said = inverter_described(name, generator=self._shelf.generator, store=self._shelf.store)
        if said is None or said.get("generator_fingerprint") != self._shelf.generator.fingerprint:
            return False
        shape = said.get("inverter", {})
        return shape.get("reads", "photo") == "photo" and not INVERTERS[str(shape.get("kind"))].sees_holes


def collection_of(method: str) -> str:
    """The inversions that uploads are saved to."""
    return f"studio-{method}"
