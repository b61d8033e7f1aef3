"""``write_report``: everything that a run left in the store, as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from ganinv.generators.stylegan2 import Generator
from ganinv.records import CodeReader
from ganinv.report import sections
from ganinv.report.images import ReaderOf, SourceImages
from ganinv.report.inversions import existing, read_runs
from ganinv.report.opening import Photos, photo_rows
from ganinv.report.request import ReportRequest
from ganinv.report.sampled import Samples, read_samples
from ganinv.report.tables import error_rows, provenance_blocks, versions
from ganinv.store import Collection, Store


def write_report(
    store: Store,
    generator: Generator,
    request: ReportRequest,
    source_images: SourceImages,
    photos: Photos = lambda ids: {},
    other_images: SourceImages = lambda ids: {},
) -> bytes:
    """The report as UTF-8 HTML, without scripts and without requests to other places. The same store gives the same bytes.

    Args:
        generator: the one that the latents belong to.
        source_images: maps image ids to the images that were inverted, uint8 [H, W, 3]; ids that it cannot read may be missing.
        photos: the same for photos of ``request.pasted``. other_images: the same as ``source_images``, for ``request.others``.
    """
    notes: list[str] = []
    runs = read_runs(store, request.latents, notes)
    samples = _samples(store, generator, request.samples, notes)
    edits = existing(store, "edits", request.edits, notes)
    training = existing(store, "training", request.training, notes)
    scored = existing(store, "edit-metrics", request.edits)
    _check_generator(generator, [(run.label, run.latents) for run in runs], notes)
    unlike = sections.unlike_settings(runs)
    notes += unlike
    reader_of = _readers(store, generator, request)
    collections = _collections(store, request)
    errors, error_total = error_rows(collections)
    page = {
        "title": request.title,
        "headline": sections.headline(generator, runs, samples),
        "opening": photo_rows(existing(store, "pasted", request.pasted, notes), photos),
        "others": sections.strips(
            reader_of, generator, read_runs(store, request.others, notes), other_images, request.max_strips
        ),
        "others_title": request.others_title,
        "strips": sections.strips(reader_of, generator, runs, source_images, request.max_strips),
        "methods": sections.methods(runs, comparable=not unlike),
        "distributions": sections.distributions(runs),
        "edits": sections.edits(store, generator, edits, scored, request, samples, source_images, reader_of),
        "directions": sections.directions(store, generator, notes),
        "samples": samples,
        "training": sections.training(training),
        "errors": {"rows": errors, "total": error_total} if errors else None,
        "provenance": {"blocks": provenance_blocks(collections), "versions": versions()},
        "generator": generator,
        "notes": list(dict.fromkeys(notes)),
    }
    return _template().render(page).encode()


def _readers(store: Store, generator: Generator, request: ReportRequest) -> ReaderOf:
    """One reader for each collection, so that an inverter is opened once."""
    opened: dict[str, CodeReader] = {}

    def reader_of(collection: Collection) -> CodeReader:
        if collection.path not in opened:
            places = {"encoders": request.encoders, "needed": request.needed}
            opened[collection.path] = CodeReader(store, collection, generator, **places)
        return opened[collection.path]

    return reader_of


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # ids, names and messages come from users
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.j2")


def _samples(store: Store, generator: Generator, name: str | None, notes: list[str]) -> Samples | None:
    collection = existing(store, "samples", name, notes)
    if collection is None:
        return None
    samples = read_samples(collection, generator)
    if samples is None:
        notes.append(f"Samples {name!r} hold no latents of this generator, so they are not shown.")
    return samples


def _collections(store: Store, request: ReportRequest) -> list[tuple[str, Collection]]:
    """(where, collection) for everything that this report reads, for its errors and its provenance."""
    wanted: list[tuple[str, str | None]] = [("samples", request.samples), ("training", request.training)]
    wanted += [
        (kind, name) for name in dict.fromkeys((*request.latents, *request.others)) for kind in ("latents", "metrics")
    ]
    wanted += [("edits", request.edits), ("edit-metrics", request.edits)]
    found = ((f"{kind}/{name}", existing(store, kind, name)) for kind, name in wanted)
    return [(where, collection) for where, collection in found if collection is not None]


def _check_generator(generator: Generator, named: Sequence[tuple[str, Collection]], notes: list[str]) -> None:
    for label, collection in named:
        fingerprint = _fingerprint(collection.provenance())
        if fingerprint and fingerprint != generator.fingerprint:
            notes.append(
                f"{label} was made with another generator ({fingerprint[:12]}) than the one that renders this report "
                f"({generator.fingerprint[:12]}): its images here are not what it found."
            )


def _fingerprint(provenance: Mapping[str, Any]) -> str:
    return str(provenance.get("generator_fingerprint") or "")
