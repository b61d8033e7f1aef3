"""Who may reach the studio, and starting it."""

from __future__ import annotations

import atexit
import ipaddress
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ganinv.errors import ConfigError

if TYPE_CHECKING:
    from flows.studio.desk import Studio

USER = "ganinv"
LEAST_PASSWORD = 8
MAX_UPLOAD = 64 * 2**20
MOST_VISITORS = 64
"""Desks that are kept, each with a photo of up to 200 MB unpacked; then the oldest goes."""
PASSWORD_VARIABLE = "GANINV_STUDIO_PASSWORD"


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach an address. Names other than ``localhost`` are taken for reachable."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_password(host: str, password: str | None) -> None:
    """Raises ConfigError where others can reach the address without a password, or with one that is quickly guessed."""
    if password is None:
        if not is_loopback(host):
            raise ConfigError(
                f"anyone who reaches {host} could see these photos and write to the store: set a password in "
                f"{PASSWORD_VARIABLE} or with --password-file, or stay on 127.0.0.1 (and come by ssh -L)"
            )
    elif len(password) < LEAST_PASSWORD:
        raise ConfigError(f"the password has {len(password)} characters, at least {LEAST_PASSWORD} are wanted")


@contextmanager
def serving(studio: Studio, host: str = "127.0.0.1", port: int = 7860, password: str | None = None) -> Iterator[str]:
    """Serve a studio while the block runs; its address.

    Uploads and downloads lie in a folder that this user alone can read, and that goes when the block ends.

    Raises:
        ConfigError: no password where one is needed, Gradio is not installed, or the port is taken.
    """
    check_password(host, password)
    folder = tempfile.mkdtemp(prefix="ganinv-studio-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # Read by Gradio as it is imported, and when it starts.
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=folder, HF_HUB_DISABLE_TELEMETRY="1")
    try:
        import gradio  # noqa: F401

        from flows.studio.page import build
    except ImportError as error:
        raise ConfigError(f"the studio needs Gradio ({error}): pip install 'ganinv[studio]'") from error
    page, looks = build(studio, folder)
    try:
        _, address, _ = page.launch(
            **looks,
            server_name=host,
            server_port=port,
            auth=None if password is None else (USER, password),
            auth_message=f"The user is {USER}.",
            prevent_thread_lock=True,
            quiet=True,
            inbrowser=False,
            share=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            pwa=False,
            footer_links=[],
            allowed_paths=[],
            max_file_size=MAX_UPLOAD,
            state_session_capacity=MOST_VISITORS,
            show_error=False,
        )
    except OSError as error:
        raise ConfigError(
            f"cannot serve on {host}:{port} ({error}): is another studio there? Give another --port"
        ) from error
    try:
        yield address
    finally:
        page.close(verbose=False)
        shutil.rmtree(folder, ignore_errors=True)
