"""The groups of commands."""

from __future__ import annotations

import typer

app = typer.Typer(help="GAN inversion for whole data sets.", no_args_is_help=True, pretty_exceptions_enable=False)
directions = typer.Typer(help="Fit, import, export and inspect directions.", no_args_is_help=True)
latents = typer.Typer(help="Import, export, render and inspect stored inversions.", no_args_is_help=True)
app.add_typer(directions, name="directions")
app.add_typer(latents, name="latents")
