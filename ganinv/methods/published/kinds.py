"""Methods whose files have networks of their own. A new one: its module beside this one, and a line here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from ganinv.methods.base import Inverter
from ganinv.methods.published.description import EncoderDescription, Tensors
from ganinv.networks.adopt import Lazy
from ganinv.registry import Registry


class PublishedKind(ABC):
    """How the files of one method are told from others, and opened."""

    parts: ClassVar[Iterable[str]]
    """What the networks of such a file may be called (``encoder``, ...), besides ``decoder``."""
    tunes_mapping: ClassVar[bool] = False
    """Whether the decoder's mapping network learned with the encoder, so that it is not the generator's own."""
    needs_mean: ClassVar[bool] = True
    """Whether a mean latent that the file lacks is to be computed from its decoder."""
    first_rows: ClassVar[bool] = False
    """Whether the encoder may have more rows than the generator, which then reads the first of them."""
    ignored: ClassVar[Iterable[str]] = ()
    """Networks of such files that served their training alone."""
    expects: ClassVar[Mapping[str, str]] = {}
    """Role of what it needs -> the published class of that role's files, where their options do not name it."""

    mark: ClassVar[str] = ""
    """A tensor of the network ``encoder`` that only files of this method have."""

    def holds(self, parts: Mapping[str, Tensors]) -> bool:
        """Whether a file with these networks is one of the method's; by its ``mark``, unless a method overrides this."""
        return self.mark in parts.get("encoder", {})

    @abstractmethod
    def describe(
        self, parts: dict[str, Tensors], opts: dict[str, Any], latent_avg: Lazy | None, where: str
    ) -> EncoderDescription:
        """What the file is.

        Raises:
            WeightsRefused: a variant that is not known here.
        """

    @abstractmethod
    def build(self, what: EncoderDescription, latent_avg: Tensor | None, where: str) -> Inverter:
        """Its inverter with the file's tensors, frozen, bound to no generator yet.

        Args:
            latent_avg: [n_styles, w_dim], or None if the file has none and none can be computed.
        """


KINDS: Registry[PublishedKind] = Registry(
    "published method",
    {
        "e2style": "ganinv.methods.published.e2style:E2STYLE",
        "padinv": "ganinv.methods.published.padinv:PADINV",
        "sam": "ganinv.methods.published.sam:SAM",
        "style-transformer": "ganinv.methods.published.style_transformer:STYLE_TRANSFORMER",
        "sfe": "ganinv.methods.published.sfe:SFE",
        "reference-editor": "ganinv.methods.published.reference_editor:REFERENCE_EDITOR",
    },
)


def kind_of(parts: Mapping[str, Tensors]) -> PublishedKind | None:
    """The method whose files have these networks, if it is one of ``KINDS``."""
    return next((kind for name in KINDS if (kind := KINDS[name]).holds(parts)), None)


def known_parts() -> tuple[str, ...]:
    """Every name that a network has in the files that are read here."""
    return tuple(dict.fromkeys([*PARTS, *(part for name in KINDS for part in KINDS[name].parts)]))


PARTS = ("encoder", "decoder", "hypernet", "grid_align", "residue")
