"""What one visitor has in front of them, and what they do with it. Each visitor has a desk of their own; nothing here is shared
but the store, the generator and the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from flows.studio.pictures import Shown, number
from flows.studio.rows import filtered, ordered
from flows.studio.saving import Saver
from flows.studio.shelf import Shelf
from flows.studio.subject import Strengths, Subject
from flows.studio.upload import Framing, Inverting, Upload, read_upload
from ganinv.data.png import png_of
from ganinv.errors import ConfigError

PAGE = 24
"""Pictures that are shown at once."""


@dataclass(frozen=True)
class Desk:
    """Of one visitor.

    Args:
        subject: what is edited. upload: the photo that it is of, where they brought it; ``made``: its inversions by method.
    """

    subject: Subject | None = None
    upload: Upload | None = None
    made: Mapping[str, Subject] = field(default_factory=dict)

    def on_table(self) -> Subject:
        """Raises ConfigError where there is nothing yet."""
        if self.subject is None:
            raise ConfigError("choose an inversion, or bring a photo, first")
        return self.subject


@dataclass(frozen=True)
class Page:
    """A part of a collection. ``ids``: of the pictures; ``total``: of the rows that meet the conditions."""

    ids: Sequence[str]
    captions: Sequence[str]
    number: int
    total: int

    @property
    def last(self) -> int:
        return max(0, -(-self.total // PAGE) - 1)

    @property
    def line(self) -> str:
        if not self.total:
            return "no row meets these conditions"
        first = self.number * PAGE
        return f"{first + 1} to {first + len(self.ids)} of {self.total}"


class Studio:
    """What all visitors share, and every action on a desk. An action gives a new desk, and changes none."""

    def __init__(self, shelf: Shelf, inverting: Inverting, saver: Saver) -> None:
        self.shelf, self.inverting, self.saver = shelf, inverting, saver

    def page(
        self, name: str, conditions: str = "", order: str = "image_id", descending: bool = False, at: int = 0
    ) -> Page:
        """The rows of a collection that meet the conditions, in that order.

        Raises:
            ConfigError: conditions that cannot be read, or an unknown column.
        """
        table = self.shelf.rows(name)
        table = ordered(filtered(table, conditions), order, descending)
        number_of = min(max(at, 0), max(0, -(-table.num_rows // PAGE) - 1))
        some = table.slice(number_of * PAGE, PAGE)
        ids, values = some["image_id"].to_pylist(), some[order].to_pylist()
        captions = [
            i if order == "image_id" else f"{i} · {order} {number(v)}" for i, v in zip(ids, values, strict=True)
        ]
        return Page(ids, captions, number_of, table.num_rows)

    def choose(self, desk: Desk, name: str, image_id: str) -> Desk:
        """A stored inversion comes on the desk."""
        return Desk(self.shelf.subject(name, image_id))

    def bring(self, desk: Desk, data: bytes, name: str, framing: Framing) -> Desk:
        """A photo comes on the desk, inverted at once."""
        upload = read_upload(data, name, framing, self.shelf.generator.resolution)
        subject = self.inverting.invert(upload, self.inverting.default)
        return Desk(subject, upload, {subject.method: subject})

    def invert_by(self, desk: Desk, method: str) -> Desk:
        """The photo on the desk by another method.

        Raises:
            ConfigError: there is no photo that somebody brought.
        """
        if desk.upload is None:
            raise ConfigError("bring a photo first: other methods of stored inversions are in the comparison below")
        subject = desk.made.get(method) or self.inverting.invert(desk.upload, method)
        return replace(desk, subject=subject, made={**desk.made, method: subject})

    def stage(self, desk: Desk, strengths: Strengths) -> list[Shown]:
        """Photo, inversion, edit."""
        subject = desk.on_table()
        edited = subject.edited(strengths, self.shelf.directions)
        return [
            Shown("Photo", subject.picture, subject.image_id),
            Shown(f"Inversion by {subject.method}", subject.plain, _error(subject.facts)),
            Shown("Edit", edited, said(strengths) or "move a slider", f"{subject.image_id}-edit.png"),
        ]

    def compare(self, desk: Desk, strengths: Strengths) -> list[Shown]:
        """The same photo by every method that there is, all with the same edit."""
        subject = desk.on_table()
        others = (
            [each for each in desk.made.values() if each is not subject] if desk.upload else self.shelf.alike(subject)
        )
        shown = [Shown("Photo", subject.picture)]
        for each in (subject, *others):
            try:
                picture, note = each.edited(strengths, self.shelf.directions), _error(each.facts)
            except ConfigError as refused:  # an edit that looks at a photo that is gone
                picture, note = each.plain, f"not edited: {refused}"
            title = each.method if each.latents in (each.method, subject.latents) or each.unsaved else each.latents
            shown.append(Shown(title, picture, note))
        return shown

    def paste(self, desk: Desk, strengths: Strengths) -> tuple[Image.Image, bytes]:
        """The whole photo with the edit in it, and as a PNG file.

        Raises:
            ConfigError: a stored inversion, of which there is the crop alone.
        """
        subject = desk.on_table()
        if desk.upload is None:
            raise ConfigError(
                "only photos that were brought here can be put back: of stored inversions there is the crop alone"
            )
        whole = desk.upload.pasted(subject.plain, subject.edited(strengths, self.shelf.directions))
        return whole, png_of(whole, compress_level=3)

    def save(self, desk: Desk, strengths: Strengths) -> tuple[Desk, str]:
        """The edit becomes a row, and so does the inversion, if it is not one yet. Also returns a message."""
        subject = desk.on_table()
        if not any(strengths.values()):
            raise ConfigError("nothing is edited yet: move a slider first")
        if subject.unsaved:
            assert desk.upload is not None
            self.saver.save_photo(desk.upload, subject.method)
            subject = subject.saved()
            desk = replace(desk, subject=subject, made={**desk.made, subject.method: subject})
        edits = self.saver.save_edit(subject, strengths)
        return desk, f"Saved {said(strengths)} of {subject.image_id} as a row of {edits.path}"


def said(strengths: Strengths) -> str:
    """``smile +2, age -1``."""
    return ", ".join(f"{name} {strength:+g}" for name, strength in strengths.items() if strength)


def _error(facts: Mapping[str, float | int | str]) -> str:
    known = ((key, facts.get(key)) for key in ("mse", "distance", "seconds"))
    return " · ".join(f"{key} {number(value)}" for key, value in known if value is not None)
