"""What went wrong with storage, in words: any exception of a file system becomes one clear :class:`StoreError`."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ganinv.errors import GaninvError, StoreError


@contextmanager
def in_words(action: str, url: str) -> Iterator[None]:
    """Turn what a file system raises inside the block into a :class:`StoreError`.

    ``FileExistsError`` passes: it is the answer of an exclusive create, not a failure.
    """
    try:
        yield
    except (GaninvError, FileExistsError):
        raise
    except Exception as error:  # botocore, aiohttp and google clients have exception trees of their own
        raise StoreError(f"cannot {action} {url}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Why a file system said no, and what to do about it."""
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    code = error.errno if isinstance(error, OSError) else None
    if isinstance(error, PermissionError) or code == errno.EROFS:
        return f"permission denied ({said}). Check the credentials or the rights on that place"
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space left ({said}). Free some space or use another store; finished units are kept"
    if isinstance(error, NotADirectoryError):
        return f"a file stands where a folder is needed ({said}). Remove it or use another place"
    if isinstance(error, FileNotFoundError):
        return f"there is no such object, folder or bucket ({said}). Check the URL, and create the bucket if it is new"
    if "Credentials" in type(error).__name__:
        return f"no credentials ({said}). Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass key= and secret="
    if isinstance(error, ConnectionError | TimeoutError) or "Connect" in type(error).__name__:
        return f"the storage cannot be reached ({said}). Check the endpoint and the network, then run again"
    return f"{said}. Check the URL and its storage options, then run again"
