"""What went wrong with storage, as a sentence, and whether a retry may help: any exception of a file system becomes one
clear :class:`StoreError`."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ganinv.errors import GaninvError, StoreError, StoreUnavailable, Unavailable

_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_ERRNO = ("EAGAIN", "EBUSY", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETRESET", "ENETUNREACH", "EREMOTEIO", "ESTALE")
_PASSING_ERRNO = {getattr(errno, name) for name in _ERRNO if hasattr(errno, name)}  # not every system has all
_PASSING_NAMES = (
    "Timeout",
    "Connect",
    "Disconnected",
    "IncompleteRead",
    "ResponseStreaming",
    "Payload",
    "ResponseParser",
    "HTTPClient",
)
_LASTING = (FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError)


@contextmanager
def storage_errors(action: str, url: str) -> Iterator[None]:
    """Turn what a file system raises inside the block into a :class:`StoreError`.

    ``FileExistsError`` passes: it is the answer of an exclusive create, not a failure.
    """
    try:
        yield
    except (GaninvError, FileExistsError):
        raise
    except Exception as error:  # botocore, aiohttp and google clients have exception trees of their own
        kind = StoreUnavailable if is_transient(error) else StoreError
        raise kind(f"cannot {action} {url}: {reason(error)}") from error


def is_absent(error: StoreError) -> bool:
    """Whether an object could not be read because there is none."""
    return isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)


def is_transient(error: BaseException | None) -> bool:
    """Whether the same call may work later: a time-out, throttling (503), a connection that broke, a server's own error.

    Told by status, error number and name, along the chain of causes: each cloud client has exceptions of its own, and none
    of them needs to be installed.
    """
    for _ in range(5):
        if error is None or isinstance(error, _LASTING):
            return False
        if isinstance(error, Unavailable | ConnectionError | TimeoutError):
            return True
        if isinstance(error, GaninvError):
            return False
        if _status(error) in _PASSING_STATUS or getattr(error, "errno", None) in _PASSING_ERRNO:
            return True
        if any(word in type(error).__name__ for word in _PASSING_NAMES):
            return True
        error = error.__cause__ or error.__context__
    return False


def _status(error: BaseException) -> int | None:
    """The HTTP status in an exception of botocore, aiohttp, gcsfs or Azure's client; None when it has none."""
    response = getattr(error, "response", None)
    found = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    for name in ("status_code", "status", "code"):
        found = found or getattr(error, name, None)
    return int(found) if isinstance(found, int) or (isinstance(found, str) and found.isdecimal()) else None


def reason(error: Exception) -> str:
    """Why a file system said no, and what to do about it."""
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    code = error.errno if isinstance(error, OSError) else None
    if isinstance(error, PermissionError) or code == errno.EROFS:
        return f"permission denied ({said}). Check the credentials or the rights on that place"
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space left ({said}). Free some space or use another store; finished units are kept"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return f"there is a file where a folder is needed ({said}). Remove it or use another place"
    if isinstance(error, IsADirectoryError):
        return f"there is a folder where a file is needed ({said}). Use another name"
    if isinstance(error, FileNotFoundError):
        return f"there is no such object, folder or bucket ({said}). Check the URL, and create the bucket if it is new"
    if "Credentials" in type(error).__name__:
        return f"no credentials ({said}). Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass key= and secret="
    if isinstance(error, ConnectionError | TimeoutError) or "Connect" in type(error).__name__:
        return f"the storage cannot be reached ({said}). Check the endpoint and the network, then run again"
    return f"{said}. Check the URL and its storage options, then run again"
