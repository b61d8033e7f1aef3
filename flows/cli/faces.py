"""Commands from photos to faces and back: ``ganinv align``, ``paste``, ``retouch``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.apps import app
from flows.cli.flags import Flag, Said, nested, step
from flows.cli.jobs import end, run_step
from flows.cli.options import AsJson, out_folder
from ganinv.errors import ConfigError

DetectorOption = Annotated[
    str,
    typer.Option(
        "--detector",
        help="Face detector: dlib, yunet, landmarks (a table), or centre (the middle square, for photos of things).",
    ),
]
Landmarks = Annotated[
    str | None, typer.Option(help="A CSV or Parquet file of eyes and mouths, or of 68 points, instead of a detector.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--setting", metavar="KEY=VALUE", help="A setting of the detector, such as model=yunet.onnx or share=0.8."
    ),
]


@step(
    app,
    "tasks.steps.align:AlignJob",
    flat=("dataset",),
    made={"detector": ("--detector", "--landmarks", "--setting")},
    flags={
        "dataset.url": Flag(
            argument=True, help="Your photos: a folder, a glob, tar shards or Parquet; any fsspec URL."
        ),
        "dataset.limit": Flag(help="Use only this many photos, the first by id."),
        "name": Flag(help="Name of the aligned faces: aligned/NAME in the store."),
    },
)
def align(
    job: Said,
    engine: Said,
    detector: DetectorOption = "dlib",
    landmarks: Landmarks = None,
    setting: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Cut faces out of photos, framed as in FFHQ. The printed url is a data set for invert.

    Example: ganinv align 'photos/*.jpg' --store runs/a

    Example: ganinv invert --store runs/a --dataset runs/a/aligned/faces --method pti
    """
    run_step("tasks.steps.align:run_align", job, engine, as_json, detector=chosen(detector, landmarks, setting))


def chosen(detector: str, landmarks: str | None, setting: list[str] | None) -> Mapping[str, Any]:
    """A detector's configuration, from what the command line says of it."""
    if landmarks is not None:
        if detector not in ("dlib", "landmarks"):
            raise ConfigError(f"--landmarks takes the place of a detector: omit --detector {detector}")
        detector = "landmarks"
    return {"kind": detector, **nested(setting or []), **({} if landmarks is None else {"table": landmarks})}


@step(
    app,
    "tasks.steps.paste:PasteJob",
    flags={"name": Flag(help="Name of the pasted photos; by default that of the edits.")},
)
def paste(
    job: Said,
    engine: Said,
    out: Annotated[str | None, typer.Option(help="Folder for the photos, PHOTO@EDIT.png.")] = None,
    as_json: AsJson = False,
) -> None:
    """Paste edited faces back into their photos. Pixels around the faces stay exactly as they are.

    Example: ganinv paste --store runs/a --edits edits --out pasted
    """
    from ganinv.store import open_store
    from tasks.engine import open_pools
    from tasks.steps.paste import run_paste, write_pasted

    made, folder = job.make(), None if out is None else out_folder(Path(out))
    with open_pools(engine.make()) as pools:
        result = run_paste(made, pools)
    if folder is not None:
        result |= {"pictures": write_pasted(open_store(made.store), made.collection_name, folder), "out": str(out)}
    end(result, as_json, engine.allow_failed)


@step(
    app,
    "flows.retouch:RetouchJob",
    flat=("dataset",),
    made={"edits": ("--edit",), "detector": ("--detector", "--landmarks", "--setting")},
    flags={
        "dataset.url": Flag(
            argument=True, help="Your photos: one, a folder, a glob, tar shards or Parquet; any fsspec URL."
        ),
        "store": Flag(default="runs/retouch"),
    },
)
def retouch(
    job: Said,
    engine: Said,
    edits: Annotated[
        list[str], typer.Option("--edit", help="smile=2; a sum: smile=2,age=-1; smile=1sd; see ganinv edit.")
    ],
    out: Annotated[str, typer.Option(help="Folder for the photos, PHOTO@EDIT.png.")],
    detector: DetectorOption = "dlib",
    landmarks: Landmarks = None,
    setting: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Edit the faces of photos: align, invert, edit and paste back, in one go.

    Directions that neither the store nor the generator has are fitted first. If run again, computes only what is missing.

    Example: ganinv retouch anna.jpg --edit smile=2 --out retouched
    """
    from flows.retouch import run_retouch
    from tasks.engine import open_pools

    made, folder = job.make(edits=edits, detector=chosen(detector, landmarks, setting)), out_folder(Path(out))
    with open_pools(engine.make()) as pools:
        result = run_retouch(made, pools, folder)
    end(result, as_json, engine.allow_failed)
