"""Inverters as what trainings make and start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ganinv.generators.files import open_generator
from ganinv.methods.base import Inverter
from ganinv.methods.files import open_inverter, pack_inverter
from ganinv.training.learner import Learner
from ganinv.training.product import Given, Places, Product


class Encoders(Product):
    """Inverters for a generator, beside others that they start from."""

    noun = "encoder"

    def open(self, places: Places, device: str) -> Given:
        generator = open_generator(places.generator, device)

        def opened(uri: str) -> Inverter:
            return open_inverter(uri, generator=generator, store=None if uri == places.name else places.store)

        needed = {role: opened(uri) for role, uri in places.needed.items()}
        start = None if places.start is None else opened(places.start)
        known = needed if start is None else {**needed, "start": start}
        fingerprints = {role: one.fingerprint for role, one in known.items()}
        return Given(torch.device(device), generator, needed, start, fingerprints)

    def pack(self, learner: Learner, given: Given, name: str, record: Mapping[str, Any]) -> dict[str, bytes]:
        assert isinstance(learner.network, Inverter)
        return pack_inverter(learner.network, generator=given.known_generator, extra=dict(record))
