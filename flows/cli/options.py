"""Options that several commands take."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ganinv.directions.fitting.registry import METHODS

StoreUrl = Annotated[str, typer.Option(help="Root of the store: a folder or any fsspec URL, such as s3://bucket/root.")]
EngineKind = Annotated[
    Literal["ray", "inline"], typer.Option("--engine", help="ray: worker processes or a cluster; inline: this process.")
]
Slots = Annotated[int | None, typer.Option(help="Worker processes; as many as fit by default.")]
Measure = Annotated[
    bool,
    typer.Option(
        help="Compare each result with its image. Of an encoder's work this is most; evaluate can do it later."
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Also the images that failed in an earlier run.")]


def _allowed(value: str | None) -> str | None:
    """Told before a run, not after it."""
    if value is not None and not re.fullmatch(r"all|\d+|\d+(\.\d+)?%", value):
        raise typer.BadParameter(f"expected a number of images (10), a share (5%) or all, got {value!r}")
    return value


AllowFailed = Annotated[
    str | None,
    typer.Option(
        callback=_allowed,
        help="How many images may fail before the exit code is 3: a number, a share such as 5%, or all. By default any number, "
        "but not all of them, and no whole shard.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
if TYPE_CHECKING:
    FitMethod = str
else:
    FitMethod = Literal[METHODS.names]  # of the registry: names that nobody lists twice
LabellerName = Annotated[str, typer.Option(help="A shipped one, one of configs/labellers, or a YAML file.")]
EncoderPlaces = Annotated[
    list[str] | None,
    typer.Option("--encoder", help="NAME=URI: where an encoder that the method names is, if not in the store."),
]
NeededPlaces = Annotated[
    list[str] | None, typer.Option("--needed", help="ROLE=URI: what an encoder starts from, such as w_encoder=w.pt.")
]
GeneratorUri = Annotated[
    str, typer.Option(help="An embedded generator's name, a weight file, or what ganinv import printed.")
]
