"""Check once, before anything needs it, that the configured Prefect server is one; otherwise say so in one sentence.

Prefect itself finds out late: a page in place of JSON, or a 404, ends in a traceback from the middle of its client.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.runtime import prepare_environment
from ganinv.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    import httpx
    from prefect.settings import Settings

PATIENCE = 20.0
"""Seconds that a server has to answer."""
EXAMPLE = "http://127.0.0.1:4200/api"


def check_address(settings: Settings) -> None:
    """Ask the server of ``settings.api.url`` for its version. Without a URL, and for Prefect Cloud, nothing is asked.

    Raises:
        ConfigError: no URL, nobody there, a refusal, or something that is not Prefect's API.
        Unavailable: a server that says it is not ready.
    """
    url = settings.api.url
    if not url or url.startswith(settings.cloud.api_url):
        return
    import httpx

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"PREFECT_API_URL is {shown(url)!r}: expected a URL such as {EXAMPLE}")
    try:
        answer = _ask(url, settings)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise unreachable(url, error) from error
    if answer.status_code in (401, 403):
        raise refused(url)
    if answer.status_code >= 500:
        raise Unavailable(
            f"the Prefect server at {shown(url)} is not ready (it answers with status {answer.status_code}): try again, or "
            "look at its log"
        )
    if not _is_prefect(answer):
        raise ConfigError(_not_prefect(url, answer, settings))


@contextmanager
def server_errors(url: str | None) -> Iterator[None]:
    """A block that talks to the server at ``url``: what goes wrong with it later is one sentence as well."""
    import httpx
    import pydantic
    from prefect.exceptions import PrefectHTTPStatusError

    where = shown(url) if url else "of this process"
    try:
        yield
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise refused(url or where) from None
        raise ConfigError(
            f"the Prefect server {where} answers a request with status {status}: {error.response.text.strip():.300}"
        ) from error
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise unreachable(url or where, error) from error
    except RuntimeError as error:
        if not str(error).startswith(("Failed to reach API", "Found incompatible versions")):  # Prefect's own words
            raise
        raise unreachable(url or where, error) from error
    except (pydantic.ValidationError, ValueError) as error:
        # Of an answer alone: whatever else is wrong with a value has been told before as a ConfigError.
        if not _from_an_answer(error):
            raise
        raise ConfigError(
            f"the Prefect server {where} gives an answer that Prefect {_version()} does not understand "
            f"({type(error).__name__}): use the same version of Prefect on both sides"
        ) from error


def refused(url: str) -> ConfigError:
    """The error of a server that wants to know who asks."""
    return ConfigError(
        f"the Prefect server refuses this request ({shown(url)}): set PREFECT_API_AUTH_STRING to the user:password that the "
        "server was started with (PREFECT_SERVER_API_AUTH_STRING)"
    )


def unreachable(url: str, error: BaseException) -> ConfigError:
    """The error of a server that is not there."""
    why = str(error) or type(error).__name__
    return ConfigError(
        f"the Prefect server at {shown(url)} cannot be reached ({why}): start it (prefect server start), correct "
        "PREFECT_API_URL, or unset it to run without one"
    )


def shown(url: str) -> str:
    """A URL without the password that may be in it."""
    parts = urlsplit(url)
    return url if "@" not in parts.netloc else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _ask(url: str, settings: Settings) -> httpx.Response:
    import httpx

    headers: dict[str, str] = dict(settings.client.custom_headers)
    auth: Any = None
    if settings.api.auth_string is not None:
        user, _, password = settings.api.auth_string.get_secret_value().partition(":")
        auth = (user, password)
    elif settings.api.key is not None:
        headers["Authorization"] = f"Bearer {settings.api.key.get_secret_value()}"
    verify: Any = True
    if settings.api.tls_insecure_skip_verify:
        verify = False
    elif settings.api.ssl_cert_file is not None:
        verify = ssl.create_default_context(cafile=settings.api.ssl_cert_file)
    address = f"{url.rstrip('/')}/admin/version"
    return httpx.get(address, headers=headers, auth=auth, verify=verify, timeout=PATIENCE)


def _is_prefect(answer: httpx.Response) -> bool:
    try:
        return answer.status_code == 200 and isinstance(answer.json(), str)
    except ValueError:
        return False


def _not_prefect(url: str, answer: httpx.Response, settings: Settings) -> str:
    """What answers instead, and the address that does work where there is one."""
    import httpx

    kind = answer.headers.get("content-type", "").partition(";")[0] or "no JSON"
    what = f"status {answer.status_code}" if answer.status_code != 200 else f"a page ({kind})"
    said = f"what answers at {shown(url)} is not Prefect's API (it gives {what})"
    parts = urlsplit(url)
    better = parts._replace(path="/api", query="", fragment="").geturl()
    if better.rstrip("/") != url.rstrip("/"):
        try:
            there = _ask(better, settings)
        except (httpx.HTTPError, OSError):
            there = None
        if there is not None and (_is_prefect(there) or there.status_code in (401, 403)):
            return f"{said}: set PREFECT_API_URL to {shown(better)}, where a Prefect server answers"
        return f"{said}, and neither is {shown(better)}: PREFECT_API_URL is a server's address with /api, such as {EXAMPLE}"
    return f"{said}: PREFECT_API_URL names another program's address; a Prefect server's is such as {EXAMPLE}"


def _from_an_answer(error: BaseException) -> bool:
    """Whether it was raised below Prefect's client, which reads what a server gave."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("prefect.client"):
            return True
        trace = trace.tb_next
    return False


def _version() -> str:
    prepare_environment()
    import prefect

    return str(prefect.__version__)
