"""Numbers, times and settings, written for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ganinv.metrics.protocol import EvaluationProtocol


@dataclass(frozen=True)
class Measure:
    """A number that a report shows for every method: its column, its label, and how to read it."""

    key: str
    label: str
    lower_is_better: bool
    words: str

    @property
    def arrow(self) -> str:
        return "↓" if self.lower_is_better else "↑"


def measures(protocol: EvaluationProtocol | None, distance: str) -> tuple[Measure, ...]:
    """The measures of an inversion, in the words of its protocol."""
    settings = protocol or EvaluationProtocol()
    window = f"{settings.ssim_window}-pixel window, pixels in [0, 1]"
    low, high = settings.range
    return (
        Measure("mse", "MSE", True, f"mean squared error, pixels in [{low:g}, {high:g}]"),
        Measure("psnr", "PSNR", False, f"dB, peak {settings.peak:g}"),
        Measure("ssim", "SSIM", False, f"structural similarity, {window}"),
        Measure("ms_ssim", "MS-SSIM", False, f"five scales, {window}"),
        Measure("distance", "Distance", True, distance or "perceptual, not named"),
        Measure("seconds", "Seconds", True, "of computing, per image"),
    )


def number(value: float | None, digits: int = 4) -> str:
    """``digits`` significant digits, in fixed notation if that is short; a dash if there is no value."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size == 0:
        text = "0"
    elif size < 1e-4 or size >= 1e7:
        text = f"{size:.{digits - 1}e}"
    else:
        text = f"{size:,.{max(digits - 1 - math.floor(math.log10(size)), 0)}f}"
    return f"−{text}" if value < 0 and text.strip("0.,") else text


def signed(value: float | None, digits: int = 2) -> str:
    """A change, with ``digits`` decimals and its sign."""
    if value is None or not math.isfinite(value):
        return number(value)
    text = f"{abs(value):.{digits}f}"
    if not text.strip("0."):
        return text
    return f"{'−' if value < 0 else '+'}{text}"


def duration(seconds: float) -> str:
    """``0.85 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{number(seconds, 3)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def count(amount: int, singular: str, plural: str | None = None) -> str:
    """``1 image``, ``40 images``."""
    return f"{amount:,} {singular if amount == 1 else plural or singular + 's'}"


def listed(names: Iterable[str]) -> str:
    """``a, b and c``."""
    *first, last = list(names) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def protocol_in_words(protocol: EvaluationProtocol | None, distance: str) -> str:
    """One sentence that says how inversions were compared with their sources."""
    if protocol is None:
        return f"No evaluation protocol is recorded. Distance: {distance or 'not named'}."
    side = f"resized to {protocol.resize} pixels ({protocol.resize_kernel})" if protocol.resize else "as rendered"
    low, high = protocol.range
    return (
        f"Protocol {protocol.name} ({protocol.digest[:8]}): images compared {side}, clamped to [{low:g}, {high:g}]; "
        f"PSNR with peak {protocol.peak:g}; SSIM on [0, 1] with a Gaussian window of {protocol.ssim_window} pixels "
        f"(σ {protocol.ssim_sigma:g}), {protocol.ssim_channels}; distance: {distance or 'not named'}."
    )


def find_protocol(*records: Mapping[str, Any]) -> EvaluationProtocol | None:
    """The evaluation protocol in the records of a collection; None if the records contain none."""
    for record in records:
        for key, value in walk(record):
            if isinstance(value, Mapping) and (key == "protocol" or "ssim_window" in value):
                try:
                    return EvaluationProtocol.model_validate(value)
                except ValidationError:  # of another version: its settings are shown under provenance, as they are
                    continue
    return None


def find_text(key: str, *records: Mapping[str, Any]) -> str:
    """The first non-empty text under ``key`` anywhere in the records; an empty text if there is none."""
    found = (value for record in records for name, value in walk(record) if name == key)
    return next((value for value in found if isinstance(value, str) and value), "")


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every (key, value) of nested mappings and lists, the outer ones first."""
    inner: list[Any] = []
    if isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items())
        inner = list(value.values())
    elif isinstance(value, list | tuple):
        inner = list(value)
    for item in inner:
        yield from walk(item)
