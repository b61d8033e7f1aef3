"""Options that several commands take, beside those that job models make (``flows.cli.flags``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli.flags import COMMON
from ganinv.directions.fitting.registry import METHODS
from ganinv.errors import ConfigError

StoreUrl = Annotated[str, typer.Option(help=COMMON["store"])]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
if TYPE_CHECKING:
    FitMethod = str
else:
    FitMethod = Literal[METHODS.names]  # of the registry: names that nobody lists twice
GeneratorUri = Annotated[str, typer.Option(help=COMMON["generator"])]
EncoderPlaces = Annotated[list[str] | None, typer.Option("--encoder", help=COMMON["encoders"])]
NeededPlaces = Annotated[list[str] | None, typer.Option("--needed", help=COMMON["needed"])]


def out_folder(out: Path) -> Path:
    """``--out`` of a command that writes into a folder when all is computed: what is in its way is told before.

    Raises:
        ConfigError: a file.
    """
    nearest = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise ConfigError(f"cannot write into {out}: {nearest} is a file. Choose another folder with --out")
    return out
