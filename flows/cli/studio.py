"""``ganinv studio``: browse and edit inversions in a browser."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.cli.apps import app
from flows.cli.flags import pairs
from flows.cli.options import EncoderPlaces, GeneratorUri, NeededPlaces


@app.command()
def studio(
    store: Annotated[str, typer.Argument(help="A folder or fsspec URL with inversions and directions.")],
    host: Annotated[
        str, typer.Option(help="Address to serve on. Any address other than loopback needs a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to serve on.", min=1, max=65535)] = 7860,
    password_file: Annotated[
        Path | None,
        typer.Option(help="File with the password of user ganinv; by default, GANINV_STUDIO_PASSWORD is used."),
    ] = None,
    encoder: EncoderPlaces = None,
    needed: NeededPlaces = None,
    generator: GeneratorUri = "portraits-64",
) -> None:
    """Browse inversions, edit them with sliders, compare methods and invert your own photos, in a browser.

    Example: ganinv studio runs/demo
    """
    from flows.studio.serving import PASSWORD_VARIABLE, check_password, serving

    password = os.environ.get(PASSWORD_VARIABLE)
    if password_file is not None:
        password = read_password(password_file)
    check_password(host, password)
    from flows.studio.opening import open_studio

    opened = open_studio(store, generator, pairs(encoder), pairs(needed))
    with serving(opened, host, port, password) as address:
        Console().print(f"the studio is at {address} (Ctrl-C ends it)", highlight=False)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            Console().print("ended")


def read_password(file: Path) -> str:
    """The first line of a file.

    Raises:
        ConfigError: it cannot be read, or is empty.
    """
    from ganinv.errors import ConfigError

    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the password cannot be read from {file}: {error}") from error
    if not lines or not lines[0]:
        raise ConfigError(f"{file} has no password in its first line")
    return lines[0]
