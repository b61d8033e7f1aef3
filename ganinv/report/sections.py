"""The sections of a report: they turn what was read into what the template shows. A section without data is None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganinv.generators.stylegan2 import Generator
from ganinv.report import plots
from ganinv.report.curves import read_training
from ganinv.report.edit_curves import EffectCurves, read_effects
from ganinv.report.edits import EditStrips, edit_strips, find_unedited
from ganinv.report.fits import comparable as comparable_fits
from ganinv.report.fits import cosines, measured, read_fits
from ganinv.report.images import ReaderOf, SourceImages
from ganinv.report.inversions import InversionRun, score_names
from ganinv.report.request import ReportRequest
from ganinv.report.sampled import Samples
from ganinv.report.strips import common_ids, method_strips
from ganinv.report.tables import method_table, order_in_words
from ganinv.report.words import count, duration, listed, measures, number, protocol_in_words, signed
from ganinv.store import Collection, Store

Section = dict[str, Any] | None


def headline(generator: Generator, runs: Sequence[InversionRun], samples: Samples | None) -> dict[str, Any]:
    """A sentence, a few large numbers, and how the numbers of the report were measured."""
    facts: list[tuple[str, str, str]] = []
    if runs:
        images = len({image_id for run in runs for image_id in run.latents.plan().ids})
        done, failed = sum(run.status.done for run in runs), sum(run.status.failed for run in runs)
        left = sum(run.status.left for run in runs)
        seconds = sum(sum(run.seconds.values()) for run in runs)
        facts = [
            (f"{images:,}", "images", f"inverted with {count(len(runs), 'method')}"),
            (f"{done:,}", "inversions ok", f"{failed:,} failed" + (f", {left:,} not reached yet" if left else "")),
            (duration(seconds), "of computing", f"{duration(seconds / max(done + failed, 1))} per inversion"),
        ]
    elif samples:
        facts = [(f"{samples.total:,}", "samples", samples.truncation)]
    facts.append((generator.name, "generator", f"{generator.resolution} px, fingerprint {generator.fingerprint[:12]}"))
    protocols = list(dict.fromkeys(protocol_in_words(run.protocol, run.distance) for run in runs))
    return {"facts": facts, "protocols": protocols, "methods": listed(run.label for run in runs)}


def unlike_settings(runs: Sequence[InversionRun]) -> list[str]:
    """Reasons why the methods' numbers must not be compared."""
    reasons, runs = [], [run for run in runs if run.ids]
    if len({run.distance for run in runs}) > 1:
        used = listed(f"{run.distance or 'not named'} ({run.label})" for run in runs)
        reasons.append(f"The methods were measured with different distances: {used}. Do not compare that column.")
    if len({run.protocol.digest if run.protocol else "" for run in runs}) > 1:
        reasons.append("The methods were evaluated with different protocols: their numbers are not comparable.")
    if len({run.measured for run in runs}) > 1:
        alone = listed(run.label for run in runs if not run.measured)
        reasons.append(f"{alone}: not evaluated like the others, the numbers are not comparable.")
    return reasons


def strips(
    reader_of: ReaderOf, generator: Generator, runs: Sequence[InversionRun], source_images: SourceImages, most: int
) -> Section:
    groups = method_strips(reader_of, generator.resolution, runs, source_images, most)
    return {"groups": groups, "headings": ["source", *(run.label for run in runs)]} if groups else None


def methods(runs: Sequence[InversionRun], comparable: bool) -> Section:
    """The table of means: over all images of each method, and, if these differ, over the images that the methods have in
    common."""
    if not any(run.ids for run in runs):
        return None
    known = measures(runs[0].protocol, runs[0].distance if comparable else "see the note above")
    table = method_table(runs, known)
    shared = common_ids(runs)
    common = method_table(runs, known, shared) if not table.same_images and shared else None
    seconds = {run.label: _mean(run.numbers["seconds"]) for run in runs}
    quality = {run.label: _mean(run.numbers.get("psnr", np.array([]))) for run in runs}
    drawn = [label for label in seconds if np.isfinite(quality[label]) and seconds[label] > 0]
    cost = plots.cost(seconds, quality, "Quality against cost", "PSNR in dB, mean") if len(drawn) > 1 else None
    return {
        "table": table,
        "common": common,
        "common_count": len(shared),
        "order": order_in_words(runs),
        "cost": cost,
        "drift": _drift(runs),
    }


def distributions(runs: Sequence[InversionRun]) -> Section:
    """Violins of each measure and the loss curves."""
    shown = []
    for measure in measures(runs[0].protocol, runs[0].distance) if runs else ():
        if measure.key == "seconds":  # a batch's time is shared out evenly: there is no distribution to see
            continue
        values = {run.label: run.numbers[measure.key] for run in runs if measure.key in run.numbers}
        if any(np.isfinite(v).any() for v in values.values()):
            log = measure.key in ("mse", "distance")
            better = "lower is better" if measure.lower_is_better else "higher is better"
            shown.append(plots.violins(values, f"{measure.label} — {better}", measure.words, log))
    curves = {run.label: run.loss for run in runs}
    losses = plots.loss_bands(curves, "Loss while inverting") if any(curves.values()) else None
    return {"violins": shown, "losses": losses} if shown or losses else None


def edits(
    store: Store,
    generator: Generator,
    collection: Collection | None,
    scored: Collection | None,
    request: ReportRequest,
    samples: Samples | None,
    source_images: SourceImages,
    reader_of: ReaderOf,
) -> Section:
    effects = None
    if scored is not None:
        effects = read_effects(scored, samples.spread if samples else {}, _targets(store, generator))
    shown: list[EditStrips] = []
    total = 0
    if collection is not None:
        unedited = find_unedited(store, collection, request.latents)
        shown, total = edit_strips(
            reader_of, generator.resolution, collection, unedited, source_images, effects, request.max_strips
        )
    if not shown and effects is None:
        return None
    return {
        "strips": shown,
        "total": total,
        **(_responses(effects) if effects else {"responses": [], "side_effects": None}),
    }


def directions(store: Store, generator: Generator, notes: list[str]) -> Section:
    """Table, bars of quality, and the cosines of all pairs."""
    fits = read_fits(store, generator.fingerprint, notes)
    if not fits:
        return None
    judged = [fit for fit in fits if "validation_accuracy" in fit.quality]
    series = {
        name: [fit.quality.get(key, float("nan")) for fit in judged]
        for key, name, _ in measured(judged)
        if key in ("validation_accuracy", "stability", "validation_correlation")
    }
    bars = plots.quality_bars([f.name for f in judged], series, "Quality of the fits", 0.5) if judged else None
    alike = comparable_fits(fits)
    names = [fit.name for fit in alike]
    matrix = _heat_map(names, names, cosines(alike), 1.0, 2) if len(alike) > 1 else None
    return {"fits": fits, "columns": measured(fits), "bars": bars, "cosines": matrix}


def training(collection: Collection | None) -> Section:
    curves = read_training(collection) if collection else None
    if curves is None or collection is None:
        return None
    drawn = [
        plots.training_curve(curves.steps, values, curves.stages, name, tone)
        for tone, (name, values) in enumerate(curves.curves.items())
    ]
    return {"name": collection.name, "curves": drawn, "steps": len(curves.steps), "stages": len(curves.stages)}


def _targets(store: Store, generator: Generator) -> dict[str, str]:
    """Direction -> the attribute it was fitted for."""
    fits = read_fits(store, generator.fingerprint, [])
    return {fit.name: str(fit.direction.report.get("attribute", "")) for fit in fits}


def _responses(effects: EffectCurves) -> dict[str, Any]:
    responses = [
        {
            "edit": response.edit,
            "attribute": response.attribute,
            "assumed": response.assumed,
            "monotone": response.monotone,
            "of": response.of,
            "plot": plots.response(response.strengths, response.scores, response.edit, response.attribute, tone),
        }
        for tone, response in enumerate(effects.responses)
    ]
    strongest = float(np.nanmax(np.abs(effects.side_effects), initial=0.0)) or 1.0
    aims = {(row, effects.attributes.index(r.attribute)) for row, r in enumerate(effects.responses) if not r.assumed}
    heat_map = _heat_map(effects.edits, effects.attributes, effects.side_effects, strongest, 2, aims)
    return {"responses": responses, "side_effects": heat_map, "scale": effects.scale}


def _drift(runs: Sequence[InversionRun]) -> Section:
    """How far inversion alone changes each attribute's score, in standard deviations of the sources' scores."""
    attributes = score_names(sorted({name for run in runs for name in run.numbers if name.startswith("score_")}))
    lines = []
    for run in runs:
        line = []
        for attribute in attributes:
            source, after = (run.numbers.get(f"score_{attribute}{end}") for end in ("_source", ""))
            spread = float(np.nanstd(source)) if source is not None and np.isfinite(source).any() else 0.0
            known = source is not None and after is not None and spread > 0
            line.append(_mean(np.abs(after - source)) / spread if known else float("nan"))  # type: ignore[operator]
        lines.append(line)
    matrix = np.array(lines)
    if not matrix.size or not np.isfinite(matrix).any():
        return None
    return _heat_map([run.label for run in runs], attributes, matrix, max(float(np.nanmax(matrix)), 1.0), 2, plain=True)


def _heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: np.ndarray,
    strongest: float,
    digits: int,
    outlined: set[tuple[int, int]] | frozenset[tuple[int, int]] = frozenset(),
    plain: bool = False,
) -> dict[str, Any]:
    """A table whose cells are coloured by sign and size. ``plain``: sizes without a sign."""

    def cell(row: int, column: int) -> Mapping[str, Any]:
        value = float(values[row, column])
        share = 0.0 if np.isnan(value) else min(abs(value) / strongest, 1.0)
        text = number(value, 2) if plain else signed(value, digits)
        return {"text": text, "share": round(share, 3), "negative": value < 0, "outlined": (row, column) in outlined}

    cells = [[cell(row, column) for column in range(len(columns))] for row in range(len(rows))]
    return {"columns": list(columns), "rows": [{"label": r, "cells": c} for r, c in zip(rows, cells, strict=True)]}


def _mean(values: np.ndarray) -> float:
    present = values[np.isfinite(values)]
    return float(present.mean()) if len(present) else float("nan")
