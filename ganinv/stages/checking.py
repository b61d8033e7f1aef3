"""Everything that a method needs, opened before a run is planned: what is refused late blocks the name of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from ganinv.errors import ConfigError
from ganinv.generators.channels import check_channels
from ganinv.generators.sites import find_site
from ganinv.labels.segmenters import open_segmenter
from ganinv.stages.base import Context
from ganinv.stages.method import Method
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import EVERY, FeatureSettings
from ganinv.stages.segment_masks import MaskSource


def check_method(method: Method, *, begun: bool = False, measure: bool = True) -> None:
    """Open distances, inverters and segmenters, and look for what cannot work on this generator.

    Args:
        begun: the run starts from stored codes.
        measure: results are measured with the method's own distance.

    Raises:
        ConfigError: something that is not there, or not for this generator. Also what opening an inverter raises.
    """
    cfg, context = method.cfg, method.context
    check_channels(context.generator.img_channels, context.generator.name)
    first = cfg.stages[0]
    if not begun and first.kind != "segment" and getattr(first, "start", "code") == "code":
        raise ConfigError(
            f"method {cfg.name!r} begins with {first.kind!r}, which starts from a code: put a stage before it that makes one, "
            "or name stored ones (ganinv invert: --from NAME)"
        )
    for name in cfg.inverters:
        context.inverter(name)
    for part in _parts(cfg):
        _check(part, context)
    if measure and method.reads != "photo":
        raise ConfigError(
            f"method {cfg.name!r} reads {method.reads}, and no photos that renderings can be compared with: run it with "
            "--no-measure"
        )
    if measure:
        context.distance(cfg.distance)


def _check(part: BaseModel, context: Context) -> None:
    if isinstance(part, ReconstructionLoss):
        if part.distance_weight:
            context.distance(part.distance)
    elif isinstance(part, FeatureSettings):
        if part.site != EVERY:
            find_site(part.site, context.generator)
    elif isinstance(part, MaskSource) and part.segmenter is not None:
        part.check_regions(open_segmenter(part.segmenter).regions)


def _parts(part: Any) -> Iterator[BaseModel]:
    """Every model in a configuration, at any depth."""
    if isinstance(part, BaseModel):
        yield part
        for name in type(part).model_fields:
            yield from _parts(getattr(part, name))
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _parts(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _parts(value)
