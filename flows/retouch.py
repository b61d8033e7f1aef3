"""Edit the faces of photos in one go: align -> (sample -> fit) -> invert -> edit -> paste."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ganinv.config import StrictModel, digest
from ganinv.editing import plain_edit
from ganinv.editing.notation import parse_reference
from ganinv.errors import ConfigError, GeneratorMismatch, did_you_mean
from ganinv.faces import AnyDetector
from ganinv.faces.aligning import Which
from ganinv.faces.dlib68 import DlibConfig
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.labels import open_labeller
from ganinv.stages.method import method_config
from ganinv.store import Store, open_store
from tasks.engine import Pools
from tasks.jobs.dataset import DatasetRef
from tasks.outcome import check_faces
from tasks.steps.align import AlignJob, run_align
from tasks.steps.edit import EditJob, EditSpec, run_edit
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.invert import InvertJob, run_invert
from tasks.steps.paste import PasteJob, run_paste, write_pasted
from tasks.steps.sample import SampleJob, run_sample

SAMPLES = 1500
"""For directions that neither a store has nor a generator comes with: enough for what is asked of a photo, in seconds."""


class RetouchJob(StrictModel):
    """Edit the faces of ``dataset``. The results of each step stay in ``store``.

    Args:
        edits: in the notation of ``ganinv edit``.
        faces: of each photo, the largest or all.
        mode: ``change`` adds what the edit changed to the photo, which keeps its own detail; ``crop`` puts the rendering in.
    """

    store: str
    dataset: DatasetRef
    edits: tuple[str, ...] = Field(min_length=1)
    method: str = "sfe-refined"
    generator: str = EMBEDDED
    detector: AnyDetector = Field(default_factory=DlibConfig)
    faces: Which = "largest"
    mode: Literal["change", "crop"] = "change"


def run_retouch(job: RetouchJob, pools: Pools, out: Path) -> dict[str, Any]:
    """Run or resume the steps, and write the photos to ``out`` as ``<photo>@<edit>.png``. Returns their results.

    Raises:
        ConfigError: an edit along a direction that neither the store has nor a fit finds. DataError: no photo has a face.
    """
    store, results = open_store(job.store), dict[str, Any]()
    edits = {text: plain_edit(text) for text in job.edits}
    specs = [EditSpec(name=text, directions=weights, strengths=(1.0,)) for text, weights in edits.items()]
    if lacking := _lacking(job, store, edits):
        _check_fitted(lacking, job)
        at = {"store": job.store, "generator": job.generator}
        results["sample"] = run_sample(SampleJob(**at, count=SAMPLES), pools)
        results["fit"] = run_fit(
            FitJob.model_validate({**at, "methods": [{"method": "interfacegan", "estimator": "ridge"}]}), pools
        )
        if missing := _lacking(job, store, edits):
            raise ConfigError(
                f"there is no direction {missing[0]!r} for this generator: fit it (ganinv directions fit) or import it "
                f"(ganinv directions import) into {job.store}"
            )
    # Other photos, faces or edits are other collections, so that nothing here is in the way of what was there.
    about = job.model_dump(mode="json", include={"dataset", "faces", "detector"})
    faces = f"faces-{digest(about)[:8]}"
    results["align"] = run_align(
        AlignJob(store=job.store, dataset=job.dataset, name=faces, detector=job.detector, faces=job.faces), pools
    )
    check_faces(results["align"])
    latents = f"{method_config(job.method).name}-{faces}"
    invert = InvertJob(
        store=job.store,
        dataset=DatasetRef(url=results["align"]["url"]),
        name=latents,
        method=job.method,
        generator=job.generator,
    )
    results["invert"] = run_invert(invert, pools)
    name = f"{latents}-{digest(list(job.edits))[:8]}"
    results["edit"] = run_edit(
        EditJob(store=job.store, latents=latents, edits=tuple(specs), name=name, generator=job.generator), pools
    )
    pasted = PasteJob(store=job.store, edits=name, name=f"{name}-{job.mode}", generator=job.generator, mode=job.mode)
    results["paste"] = run_paste(pasted, pools)
    results |= {"pictures": write_pasted(store, pasted.collection_name, out), "out": str(out)}
    return results


def _check_fitted(lacking: Sequence[str], job: RetouchJob) -> None:
    """Refuse a name that no fit would make before the minutes of one.

    Raises:
        ConfigError: there is one.
    """
    scored = open_labeller(FitJob.model_fields["labeller"].default).attributes
    for name in lacking:
        if name not in scored:
            raise ConfigError(
                f"there is no direction {name!r} in {job.store}{did_you_mean(name, scored)}; those that can be fitted here are "
                f"{', '.join(scored)}: import it otherwise (ganinv directions import)"
            )


def _lacking(job: RetouchJob, store: Store, edits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The directions of the edits that the store does not have for the generator."""
    fingerprint, lacking = open_generator(job.generator).fingerprint, []
    for reference in {reference for weights in edits.values() for reference in weights}:
        parsed = parse_reference(reference)
        try:
            store.directions.get(parsed.name, fingerprint, parsed.version)
        except (ConfigError, GeneratorMismatch):
            lacking.append(parsed.name)
    return sorted(lacking)
