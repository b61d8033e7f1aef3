"""Side by side: each source image and what every method made of it, for the best, typical and worst cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ganinv.report.images import ReaderOf, SourceImages, read_codes, read_sources, render_rows
from ganinv.report.inversions import InversionRun
from ganinv.report.words import count, number

MOST_INCOMPLETE = 3


@dataclass(frozen=True)
class Cell:
    """One picture of a strip, or the reason why it is missing. ``marked``: it is the best of a strip, or the unedited one."""

    image: str | None = None
    lines: tuple[str, ...] = ()
    marked: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Strip:
    label: str
    note: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class StripGroup:
    """Strips that are shown for the same reason, which the title gives."""

    title: str
    strips: tuple[Strip, ...]


def method_strips(
    reader_of: ReaderOf, resolution: int, runs: Sequence[InversionRun], source_images: SourceImages, most: int
) -> list[StripGroup]:
    """Up to ``most`` strips in groups: the best, typical ones (around the median), the worst, and incomplete ones.

    Images are ordered by their PSNR, averaged over the methods, among the images that every method inverted.
    """
    chosen = _choose(runs, most)
    ids = [image_id for _, members in chosen for image_id, _ in members]
    if not ids:
        return []
    sources = read_sources(source_images, ids, resolution)
    rendered = [_render(reader_of, run, ids) for run in runs]
    groups = []
    for title, members in chosen:
        strips = [
            Strip(image_id, note, _cells(image_id, runs, rendered, sources.get(image_id))) for image_id, note in members
        ]
        groups.append(StripGroup(title, tuple(strips)))
    return groups


def common_ids(runs: Sequence[InversionRun]) -> list[str]:
    """Images with numbers from every run, sorted."""
    return sorted(set.intersection(*(set(run.ids) for run in runs))) if runs else []


def _choose(runs: Sequence[InversionRun], most: int) -> list[tuple[str, list[tuple[str, str]]]]:
    """(title of a group, [(image id, note)])."""
    common = common_ids(runs)
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    if common:
        means = np.mean([_psnr(run, common) for run in runs], axis=0)
        places = np.argsort(np.where(np.isnan(means), np.inf, -means), kind="stable")
        order = [common[place] for place in places]
        notes = {
            common[place]: f"rank {rank} of {len(common)}\nmean {number(float(means[place]), 3)} dB"
            for rank, place in enumerate(places, start=1)
        }
        groups = [(title, [(i, notes[i]) for i in members]) for title, members in _thirds(order, most)]
    done_by_some = sorted({image_id for run in runs for image_id in run.ids}.difference(common))
    if incomplete := done_by_some[: min(MOST_INCOMPLETE, most)]:
        shown = f"{len(incomplete)} of {count(len(done_by_some), 'image')}" if len(done_by_some) > 3 else ""
        title = f"Not inverted by every method{f' ({shown})' if shown else ''}"
        groups.append((title, [(i, "not ranked") for i in incomplete]))
    return groups


def _thirds(order: list[str], most: int) -> list[tuple[str, list[str]]]:
    """Best, typical and worst of images that are ordered from best to worst; half of the strips are typical ones."""
    total = len(order)
    if total <= most:
        return [(f"All {count(total, 'image')}, best first", order)]
    ends = max(most // 4, 1) if most >= 3 else 0
    typical = most - 2 * ends
    start = min(max((total - typical) // 2, ends), total - ends - typical)
    groups = [("Typical: around the median", order[start : start + typical])]
    if ends:
        groups = [(f"Best {ends} of {total}", order[:ends]), *groups, (f"Worst {ends} of {total}", order[-ends:])]
    return groups


def _psnr(run: InversionRun, ids: Sequence[str]) -> np.ndarray:
    if "psnr" in run.numbers:
        return run.of("psnr", ids)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(4 / run.of("mse", ids))


def _render(reader_of: ReaderOf, run: InversionRun, ids: Sequence[str]) -> dict[str, tuple[str | None, str]]:
    table = read_codes(run.latents, ids)
    if table is None:
        return {}
    return dict(zip(table["image_id"].to_pylist(), render_rows(reader_of(run.latents), table), strict=True))


def _cells(
    image_id: str,
    runs: Sequence[InversionRun],
    rendered: Sequence[dict[str, tuple[str | None, str]]],
    source: str | None,
) -> tuple[Cell, ...]:
    errors = [run.value("mse", image_id) for run in runs]
    finite = [error for error in errors if np.isfinite(error)]
    cells = [Cell(source, reason="" if source else "the source image cannot be read")]
    for run, images, error in zip(runs, rendered, errors, strict=True):
        image, reason = images.get(image_id, (None, run.failures.get(image_id, "not inverted yet")))
        lines = () if np.isnan(error) else (f"MSE {number(error, 3)}", f"{_psnr(run, [image_id])[0]:.1f} dB")
        best = len(finite) > 1 and error == min(finite)
        cells.append(Cell(image, lines, marked=best, reason=reason))
    return tuple(cells)
