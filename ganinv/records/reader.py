"""``CodeReader``: the one place where rows of a collection become codes that can be rendered and edited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from ganinv.codes.code import Code, HeadCode
from ganinv.errors import ConfigError, GeneratorMismatch, WeightsRefused
from ganinv.generators.carrying import carry_features
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter, hashing_once
from ganinv.methods.files import open_inverter
from ganinv.records.codes import HOLDS, table_to_code
from ganinv.store.collection import Collection
from ganinv.store.store import Store


class CodeReader:
    """Reads the codes of ``latents`` or ``edits``, whatever method made them.

    The provenance of the collection names the inverters that made its codes (``ganinv.records.origin``). An inverter is opened
    only if a row needs it: for the heads of a hypernetwork, or for its own editing rule.

    Args:
        collection: the collection of the rows.
        generator: the generator of the codes; inverters are moved to its device.
        encoders: current locations of inverters that have moved, by name. needed: networks they depend on, by role.
        origin: the provenance of codes that are not rows yet; by default that of the collection.
    """

    def __init__(
        self,
        store: Store,
        collection: Collection,
        generator: Generator,
        *,
        encoders: Mapping[str, str] | None = None,
        needed: Mapping[str, str] | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.store, self.collection, self.generator = store, collection, generator
        self._places, self._needed, self._given = dict(encoders or {}), dict(needed or {}), origin
        self._opened: dict[str, Inverter] = {}

    def codes(self, table: pa.Table, rows: Sequence[int] | None = None) -> Code:
        """The code of some rows (all by default), in their order, on the CPU, with everything needed to render it: extras,
        changes of styles and segments by an edit, and heads.

        Raises:
            WeightsRefused, StoreError: as ``table_to_code``, or the inverter whose heads are needed is not available.
        """
        return self.bound(table_to_code(table, self.store, rows))

    def bound(self, code: Code) -> Code:
        """A code that was read, with the heads of the hypernetwork that made it.

        Raises:
            WeightsRefused: that is not available.
        """
        missing = set(_headless(code))
        if not missing:
            return code
        for name, known in reversed([*self._known.items()]):  # what comes later took the place of what was there
            if known.get("heads"):
                heads = {n: head for n, head in self._inverter(name).weight_heads().items() if n in missing}
                code, missing = code.with_heads(heads), missing - heads.keys()
            if not missing:
                return code
        raise WeightsRefused(
            f"{self._what} hold vectors of a hypernetwork for {', '.join(sorted(missing)[:3])}, and their provenance names no "
            "inverter with heads for them: invert again, or read them with table_to_code and bind heads with Code.with_heads"
        )

    @property
    def edits_need_images(self) -> bool:
        """Whether :meth:`after_edit` looks at the photo."""
        return bool(self._rule.get("needs_images"))

    @property
    def photo_side(self) -> int | None:
        """Height and width of the photos, where :meth:`after_edit` reads more pixels than the generator makes."""
        side: int | None = self._rule.get("photo_side")
        return side

    def edits_change_extras(self, table: pa.Table) -> bool:
        """Whether edits of some of these rows may be more than a moved code. Opens nothing; ``table`` needs ``extras_holds``.

        This is the case if the inverter has its own editing rule, or if features are stored.
        """
        if self._rule:
            return True
        if HOLDS in table.schema.names:
            return "features" in pc.unique(pc.list_flatten(table[HOLDS])).to_pylist()
        # Rows that an older version made do not say what they have.
        return "extras_uri" in table.schema.names and table["extras_uri"].null_count < table.num_rows

    @torch.no_grad()
    def after_edit(self, images: Tensor | None, code: Code, edited: Code) -> Code:
        """The code to render for ``edited``, which is ``code`` moved along directions, with its extras. Returns ``edited``
        itself if nothing else changes.

        Applies the inverter's rule if it has one (``Inverter.after_edit``); otherwise stored features move with the edit.

        Args:
            images: [B, 3, R, R] in [-1, 1], of the photos (of ``photo_side``), where ``edits_need_images``.

        Raises:
            WeightsRefused: the inverter is not available.
        """
        if _same_place(code, edited):
            return edited
        if not self._rule:
            if not any(f.replace is not None or f.image is not None for f in (edited.features or {}).values()):
                return edited
            device = self.generator.device
            return carry_features(self.generator, code.to(device), edited.to(device)).to(edited.w.device)
        if self.edits_need_images and images is None:
            raise ConfigError(f"an edit of {self._what} looks at the photo again: give images")
        device = self.generator.device
        photos = None if images is None else images.to(device)
        after = self._inverter(self._rule["encoder"]).after_edit(photos, code.to(device), edited.to(device))
        return after.to(edited.w.device)

    def check(self, *, edits: bool = False) -> CodeReader:
        """Open everything that reading may need, so that a run is refused before it is planned. Returns itself.

        Args:
            edits: also open what editing needs.

        Raises:
            WeightsRefused: an inverter is not available.
        """
        for name, known in self._known.items():
            if known.get("heads") or (edits and name == self._rule.get("encoder")):
                self._inverter(name)
        return self

    @property
    def _known(self) -> Mapping[str, Mapping[str, Any]]:
        encoders: Mapping[str, Mapping[str, Any]] = self._origin.get("encoders", {})
        return encoders

    @property
    def _rule(self) -> Mapping[str, Any]:
        return self._origin.get("edit_rule") or {}

    @cached_property
    def _origin(self) -> Mapping[str, Any]:
        return self.collection.provenance() if self._given is None else self._given

    @property
    def _what(self) -> str:
        return f"{self.collection.kind} {self.collection.name!r}"

    def _inverter(self, name: str) -> Inverter:
        if name not in self._opened:
            self._opened[name] = self._found(name)
        return self._opened[name]

    def _found(self, name: str) -> Inverter:
        known = self._known[name]
        place = self._places.get(name, str(known["uri"]))
        needed = {role: str(each["uri"]) for role, each in known.get("needed", {}).items()} | self._needed
        how = f"give it with --encoder {name}=URI (a name of the store, a folder, or a published checkpoint)"
        wanted = f"{self._what} were made by inverter {name!r} ({str(known['fingerprint'])[:12]})"
        try:
            with hashing_once():
                found = open_inverter(place, generator=self.generator, store=self.store, needed=needed)
                fingerprint = found.fingerprint
        except (WeightsRefused, GeneratorMismatch, ConfigError) as error:
            raise WeightsRefused(f"{wanted}, which cannot be opened at {place}: {error}; {how}") from error
        if fingerprint != known["fingerprint"]:
            raise WeightsRefused(f"{wanted}, and at {place} is another one ({fingerprint[:12]}); {how}")
        return found


def _same_place(code: Code, edited: Code) -> bool:
    """Whether the edit moved nothing, as one of strength 0 does."""
    if edited.segments is not code.segments or not torch.equal(code.w, edited.w):
        return False
    before, after = code.styles or {}, edited.styles or {}
    return all(torch.equal(offset, before.get(name, torch.zeros_like(offset))) for name, offset in after.items())


def _headless(code: Code) -> Iterator[str]:
    """Parameters whose offset is a hypernetwork's code without its head."""
    for deltas in (code.weights, code.scales):
        for name, delta in (deltas or {}).items():
            if isinstance(delta, HeadCode) and delta.head is None:
                yield name
