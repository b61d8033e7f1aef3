"""What is stored must belong to the generator that is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganinv.errors import GeneratorMismatch
from ganinv.generators.stylegan2 import Generator


def check_generator(origin: Mapping[str, Any], generator: Generator, what: str) -> None:
    """Refuse what another generator made.

    Args:
        origin: provenance of a collection: ``generator_name``, ``generator_fingerprint``. what: names it in the message.

    Raises:
        GeneratorMismatch: it is another one's; both are named.
    """
    if origin.get("generator_fingerprint") != generator.fingerprint:
        raise GeneratorMismatch(
            f"{what} belong to generator {origin.get('generator_name')!r} "
            f"({str(origin.get('generator_fingerprint'))[:12]}), and {generator.name!r} ({generator.fingerprint[:12]}) was "
            "given: give the one they belong to"
        )
