"""What a code's segments may ask of a generator."""

from __future__ import annotations

from torch import Tensor

from ganinv.codes.segments import Segments
from ganinv.generators.config import GeneratorConfig


def check_segments(segments: Segments, batch: int, cfg: GeneratorConfig) -> None:
    """Raises ValueError for segments that are not for a batch of this size, or not for this generator. Their styles are
    checked with those of the code."""
    size, count = cfg.resolution, len(segments)
    wanted: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
        ("masks", segments.masks, (count, 1, size, size)),
        ("w", segments.w, (count, cfg.num_ws, cfg.w_dim)),
        ("background", segments.background, (cfg.img_channels, size, size)),
    ]
    wanted += [
        (f"styles[{name!r}]", value, (count, *value.shape[2:])) for name, value in (segments.styles or {}).items()
    ]
    for name, tensor, shape in wanted:
        if tensor is not None and (len(tensor) not in (1, batch) or tuple(tensor.shape[1:]) != shape):
            either = "1" if batch == 1 else f"{batch} or 1"
            raise ValueError(
                f"Code.segments.{name} must have the shape [{either}, {', '.join(map(str, shape))}], "
                f"got {list(tensor.shape)}"
            )
