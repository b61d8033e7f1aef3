"""Options that several commands take, beside those that job models make (``flows.cli.flags``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli.flags import COMMON
from ganinv.directions.fitting.registry import METHODS

StoreUrl = Annotated[str, typer.Option(help=COMMON["store"])]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
if TYPE_CHECKING:
    FitMethod = str
else:
    FitMethod = Literal[METHODS.names]  # of the registry: names that nobody lists twice
GeneratorUri = Annotated[str, typer.Option(help=COMMON["generator"])]
EncoderPlaces = Annotated[list[str] | None, typer.Option("--encoder", help=COMMON["encoders"])]
NeededPlaces = Annotated[list[str] | None, typer.Option("--needed", help=COMMON["needed"])]
