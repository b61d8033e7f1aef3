"""Check that stored data belongs to the given generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganinv.errors import GeneratorMismatch
from ganinv.generators.stylegan2 import Generator


def check_generator(origin: Mapping[str, Any], generator: Generator, what: str) -> None:
    """Refuse data of another generator.

    Args:
        origin: provenance of a collection: ``generator_name``, ``generator_fingerprint``. what: names it in the message.

    Raises:
        GeneratorMismatch: it belongs to another generator; the message names both.
    """
    if origin.get("generator_fingerprint") != generator.fingerprint:
        raise GeneratorMismatch(
            f"{what} belong to generator {origin.get('generator_name')!r} "
            f"({str(origin.get('generator_fingerprint'))[:12]}), and {generator.name!r} ({generator.fingerprint[:12]}) was "
            "given: give the one they belong to"
        )
