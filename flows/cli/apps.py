"""The groups that commands register with."""

from __future__ import annotations

import typer

app = typer.Typer(help="Dataset-scale GAN inversion.", no_args_is_help=True, pretty_exceptions_enable=False)
directions = typer.Typer(help="Stored directions.", no_args_is_help=True)
latents = typer.Typer(help="Stored inversions.", no_args_is_help=True)
app.add_typer(directions, name="directions")
app.add_typer(latents, name="latents")
