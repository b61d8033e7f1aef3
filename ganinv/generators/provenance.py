"""Where a network came from, in a small record that travels with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """The origin of a network that ``open_generator`` opened.

    Attributes:
        uri: as it was asked for. sha256: of the weight file.
        family: ``stylegan2``. layout: the dialect of the file (``nvidia``, ``rosinality``, ``genforce``, ``hammer``,
            ``tensorflow``, ``ganinv``). container: ``pickle``, ``torch zip``, ``torch stream``, ``safetensors``.
        network: which of the file's networks (``G_ema``, ``G``, ``D``).
        computed: values that the file lacks and that were computed or drawn, with samples and seeds.
        assumed: settings that the layout does not record.
        no_discriminator: why there is none.
        origin: for a folder in our format that was made from another file, this record of that file; else empty.
    """

    uri: str
    sha256: str
    layout: str
    container: str
    network: str = "G_ema"
    family: str = "stylegan2"
    computed: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, Any] = field(default_factory=dict)
    no_discriminator: str = ""
    origin: dict[str, Any] = field(default_factory=dict)

    def as_origin(self) -> dict[str, Any]:
        """What a copy of the network records of where it comes from: the first file, however many copies ago."""
        record = asdict(self)
        return record.pop("origin") or record
