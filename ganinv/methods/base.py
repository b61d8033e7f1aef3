"""``Inverter``, which turns images into codes: the base of every trained method; and its most common kind, the encoder."""

from __future__ import annotations

import contextlib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.codes.parts import Head
from ganinv.config import StrictModel
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.carrying import carry_features
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.inputs import fit, with_holes


class InverterConfig(StrictModel):
    """The shape of an inverter: what is needed to build it again before its weights are read. ``kind`` tells them apart."""

    kind: str

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of this model that follow from the generator, with ``given`` over them; as plain data."""
        shape = {
            "resolution": generator.resolution,
            "num_ws": generator.num_ws,
            "w_dim": generator.w_dim,
            "img_channels": generator.img_channels,
        }
        filled: dict[str, Any] = {name: value for name, value in shape.items() if name in cls.model_fields} | dict(
            given
        )
        for name, field in cls.model_fields.items():  # a model inside, such as ReStyle's encoder
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, InverterConfig):
                filled[name] = inner.for_generator(generator, filled.get(name) or {})
        return filled


class Inverter(nn.Module, ABC):
    """Images [B, C, H, W] in [-1, 1] to a ``Code``; trained here or read from a file, and bound to one generator.

    A method with weights is a subclass and its ``Config``, in a file of this package, with a line in
    ``ganinv.methods.registry``. Its parameters are the method's own: the generator and what it needs are held, not owned,
    so ``state_dict()`` is what is stored.

    Args:
        cfg: its shape.
        generator: the generator of its codes. A plain encoder can encode without one; rendering needs one.
        needed: frozen inverters by role of ``needs``.

    Attributes:
        Config: the model of its configuration.
        needs: roles of other inverters that it depends on, such as HyperStyle's ``w_encoder``.
        edits_need_images: whether ``after_edit`` looks at the photo.
        edits_by_reference: whether it can copy attributes from another image (``edit_by_reference``).
        sees_holes: whether it reads the missing region of an image as an additional channel (``inputs.with_holes``); ``refine``
            then receives images with that channel.
        uri: where it was opened from, as ``open_inverter`` takes it; empty for one that was just built.
    """

    cfg: Any
    Config: ClassVar[type[InverterConfig]]
    needs: ClassVar[tuple[str, ...]] = ()
    edits_need_images: ClassVar[bool] = False
    edits_by_reference: ClassVar[bool] = False
    sees_holes: ClassVar[bool] = False

    def __init__(
        self, cfg: InverterConfig, generator: Generator | None = None, needed: Mapping[str, Inverter] | None = None
    ) -> None:
        super().__init__()
        self.cfg = cfg
        self.needed = {role: needed[role] for role in self.needs if needed and role in needed}
        self.uri = ""
        self._bound = (generator,)  # in a tuple, or its parameters would count as ours
        self.build()
        if generator is not None:
            self.bind(generator)

    @abstractmethod
    def build(self) -> None:
        """Make the networks that ``cfg`` describes."""

    def begin(self) -> None:
        """Initialise what depends on the generator, such as the unit of features at its site. Called once, before training from
        scratch; ``latent_avg`` is set already."""

    @property
    def generator(self) -> Generator:
        """The generator that its codes are for.

        Raises:
            ConfigError: it was built without one.
        """
        (generator,) = self._bound
        if generator is None:
            raise ConfigError(f"this {self.cfg.kind} was opened without a generator: give the one it belongs to")
        return generator

    def bind(self, generator: Generator) -> None:
        """From now on its codes are for ``generator``.

        Raises:
            GeneratorMismatch: a generator of another shape.
        """
        shape = (getattr(self, "num_ws", generator.num_ws), getattr(self, "w_dim", generator.w_dim))
        if shape != (generator.num_ws, generator.w_dim):
            raise GeneratorMismatch(
                f"this {self.cfg.kind} gives latents of {shape[0]}x{shape[1]}, generator {generator.name!r} takes "
                f"{generator.num_ws}x{generator.w_dim}"
            )
        self._bound = (generator,)

    def forward(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, holes: Tensor | None = None
    ) -> Code:
        """The code of images [B, C, H, W]: the last of :meth:`refine`.

        Args:
            holes: [B or 1, 1, h, w], 1 where pixels are missing. Ignored by inverters that do not see holes.
        """
        *_, last = self.refine(self.as_seen(images, holes), code, steps=steps)
        return last

    def as_seen(self, images: Tensor, holes: Tensor | None) -> Tensor:
        """Images [B, C, H, W] as :meth:`refine` takes them: with the channel of missing pixels, if it sees holes.

        On a CPU their channels come last in memory, as renderings' do. Convolutions pass this order on, and take 0.65 to 0.9 of
        the time. Not where gradients are wanted: of narrow networks they are wrong in this order (torch 2.13).
        """
        seen = with_holes(images, holes) if self.sees_holes else images
        if seen.device.type != "cpu" or torch.is_grad_enabled():
            return seen
        return seen.contiguous(memory_format=torch.channels_last)

    def need(self, role: str) -> Inverter:
        """The inverter that plays ``role`` of ``needs``.

        Raises:
            ConfigError: it was not given. An inverter that only continues codes may never need it.
        """
        if role not in self.needed:
            raise ConfigError(
                f"{self.cfg.kind} starts from another network, its {role}, which is not here: give it with "
                f"--needed {role}=URI (a name of the store, a folder, or a published checkpoint)"
            )
        return self.needed[role]

    @abstractmethod
    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        """The code after each pass.

        Args:
            code: to start from; None starts where the method starts.
            steps: number of passes; None for the number it was trained with.
            detach: no gradients from one pass into the one before (training).
        """

    def after_edit(self, images: Tensor | None, code: Code, edited: Code) -> Code:
        """The code to render for ``edited``, which is ``code`` moved along directions and has its extras.

        By default extras stay, and stored feature maps move with the edit (``generators.carrying``).

        Args:
            images: [B, C, H, W], where ``edits_need_images``.
        """
        return carry_features(self.generator, code, edited)

    def reference_code(self, images: Tensor) -> Code:
        """Codes of images [B, C, H, W] that edits take attributes from, where ``edits_by_reference``."""
        return self(images)

    def edit_by_reference(self, code: Code, reference: Code, attributes: Sequence[str] = ()) -> Code:
        """The code with attributes replaced by those of another image's code; extras stay.

        Args:
            reference: one for all codes, or one for each. attributes: which ones; if empty, all that it knows.

        Raises:
            ConfigError: it makes no such edits, or knows no such attribute.
        """
        raise ConfigError(f"{self.cfg.kind} takes nothing over from references: give an editor that does")

    @property
    def photo_side(self) -> int:
        """Height and width, in pixels, of the photo that it can make use of; 0 if it has no preferred size."""
        sides = [max(getattr(module, "input_size", (0,))) for module in self.modules()]
        return max([*sides, *(each.photo_side for each in self.needed.values())])

    @property
    def reads(self) -> Literal["photo", "sketch", "labels"]:
        """The kind of pictures that it inverts; only renderings of photos can be compared with them."""
        return "photo"

    def weight_heads(self) -> Mapping[str, Head]:
        """Parameter name of the synthesis -> the head of its ``HeadCode``. Heads belong to the inverter, not to stored codes."""
        return {}

    @property
    def fingerprint(self) -> str:
        """sha256 over the weights, names sorted, and over the fingerprints of what it needs."""
        known = _KNOWN.get()
        if known is not None and self in known:
            return known[self]
        found = fingerprint_of(self)
        if self.needed:
            digest = hashlib.sha256(found.encode())
            for role, inverter in sorted(self.needed.items()):
                digest.update(f"{role}={inverter.fingerprint}".encode())
            found = digest.hexdigest()
        if known is not None:
            known[self] = found
        return found


_KNOWN: ContextVar[dict[Inverter, str] | None] = ContextVar("fingerprints", default=None)


@contextlib.contextmanager
def hashing_once() -> Iterator[None]:
    """Inside, the weights of each inverter are hashed at most once: for published networks that is a second's work. For work
    that opens inverters and changes no weights. Nothing is remembered after it, so nothing goes stale."""
    token = _KNOWN.set({})
    try:
        yield
    finally:
        _KNOWN.reset(token)


class ImageEncoder(Inverter):
    """An inverter of one pass into W or W+; ``latents(images)`` gives its w [B, num_ws, w_dim].

    An encoder predicts *offsets* to ``latent_avg`` [w_dim] or [num_ws, w_dim]. Images of any size are resized to
    ``input_size`` (height, width).
    """

    latent_avg: Tensor
    input_size: tuple[int, int]
    num_ws: int
    w_dim: int

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        yield Code(w=self.latents(images))

    def latents(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] to w [B, num_ws, w_dim]."""
        offsets = self.offsets(fit(images, self.input_size))
        if offsets.shape != (expected := (len(images), self.num_ws, self.w_dim)):
            raise ValueError(
                f"{type(self).__name__}.offsets gave {[*offsets.shape]}, expected [B, num_ws, w_dim], {[*expected]}"
            )
        return offsets + self.latent_avg

    @abstractmethod
    def offsets(self, images: Tensor) -> Tensor:
        """Images of ``input_size`` to what is added to ``latent_avg``: [B, num_ws, w_dim]."""


def fingerprint_of(*modules: nn.Module, **tensors: Tensor) -> str:
    """sha256 over the weights of modules and over named tensors: names sorted, float32 bytes."""
    digest = hashlib.sha256()
    for named in (*(module.state_dict() for module in modules), tensors):
        for name, tensor in sorted(named.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().reshape(-1).numpy())  # flat: hashed without a copy
    return digest.hexdigest()
