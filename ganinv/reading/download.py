"""Download one file over HTTP. The download continues after a broken connection or a killed process, and leaves the whole file
or none (ranges: RFC 9110, section 14)."""

from __future__ import annotations

import errno
import http.client
import itertools
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ganinv.errors import WeightsRefused
from ganinv.reading.part import PartialDownload

DownloadProgress = Callable[[int, int | None], None]
"""Called with the number of bytes received and the total number of bytes; None if the host does not say the total."""
Check = Callable[[bytes, int | None], None]
"""Called with the first bytes (up to ``HEAD``) and the total number of bytes; raises the error with which the file is
refused."""

WAITS = (1.0, 3.0, 10.0)
"""Seconds before the next try, if a try received no more bytes than the ones before. After the last of them, the download gives
up."""
HEAD = 1024
_TIMEOUT, _LONGEST_WAIT, _CHUNK = 60.0, 60.0, 1 << 18
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # statuses that a later try may not meet
_Response = http.client.HTTPResponse


class _Broken(Exception):
    """This connection gave no more bytes. ``wait``: seconds that the host asks to wait."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    check: Check | None = None,
    progress: DownloadProgress | None = None,
) -> None:
    """Fetch ``url`` into ``target``, which appears when it is complete and checked.

    Received bytes are kept beside it (``.part-...``). The next call continues them if the host can send ranges and says which
    version of the file it sends; otherwise the file is fetched again from its start. Several processes may ask for the same
    target: one downloads, the others wait for it.

    Args:
        sha256: hash that the file must have.
        check: refuses a file by its first bytes, before the rest is downloaded.

    Raises:
        FileNotFoundError: the host has no such file.
        WeightsRefused: the host refuses, the connection breaks repeatedly, the hash is wrong, or no space is left.
    """
    with PartialDownload.of(target) as part:
        if target.is_file():
            return  # another process was at it in the meantime
        try:
            in_one_go = _receive(url, part, check, progress)
            if sha256:
                _check_hash(
                    url, part, sha256.lower(), None if in_one_go else lambda: _receive(url, part, check, progress)
                )
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise WeightsRefused(
                    f"{url}: no space left in {target.parent} after {part.size} bytes; free some, or set GANINV_CACHE to "
                    "another folder. The download resumes there"
                ) from error
            raise
        part.become(target)


def _check_hash(url: str, part: PartialDownload, wanted: str, again: Callable[[], object] | None) -> None:
    """Refuse a wrong hash. If ``again`` is given, it first fetches the file once more from its start, because the bytes may be
    of two versions: a host need not say that the file changed."""
    got = part.sha256()
    if got != wanted and again is not None:
        part.begin("", None)
        again()
        got = part.sha256()
    if got != wanted:
        part.begin("", None)
        raise WeightsRefused(
            f"{url}: its sha256 is {got}, expected {wanted}: another file, or a damaged one. It was not kept"
        )


def _receive(url: str, part: PartialDownload, check: Check | None, progress: DownloadProgress | None) -> bool:
    """Fill ``part`` over as many connections as necessary. True if everything came over a single connection."""
    most, connections, fresh = part.size, 0, not part.size
    waits = iter(WAITS)
    while not part.complete:
        connections += 1
        try:
            with _answer(url, part) as response:
                _append(response, part, check, progress)
            break
        except _Broken as error:
            if part.size > most:
                most, waits = part.size, iter(WAITS)
            pause = next(waits, None)
            if pause is None:
                kept = (
                    f"; {part.size} bytes of it are kept, run again to continue" if part.validator and part.size else ""
                )
                raise WeightsRefused(
                    f"{url}: cannot be downloaded, {connections} connections ended early, the last one: {error}{kept}"
                ) from error
            time.sleep(max(pause, min(error.wait, _LONGEST_WAIT)))
    return fresh and connections == 1


def _answer(url: str, part: PartialDownload) -> _Response:
    """The host's answer, with the part ready for its body: bytes that are there stay if the answer continues them."""
    start = part.size
    headers = {"User-Agent": "ganinv"}
    if start and part.validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": part.validator}
    try:
        response: _Response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:
                part.begin("", None)
                raise _Broken("the host has fewer bytes than are there already: the file has changed") from error
            raise _refusal(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_reason(error)) from error
    if response.status == 206:
        if _goes_on(response, part):
            return response
        response.close()
        part.begin("", None)
        raise _Broken("the host sent another part than was asked for, or the file has changed")
    part.begin(_validator(response), _length(response))
    return response


def _append(response: _Response, part: PartialDownload, check: Check | None, progress: DownloadProgress | None) -> None:
    done = part.size
    with part.open_at_end() as file:
        for size in itertools.chain([HEAD], itertools.repeat(_CHUNK)):
            try:
                data = response.read(size)
            except (OSError, http.client.HTTPException) as error:
                raise _Broken(_reason(error)) from error
            if done == 0 and part.total is not None and len(data) < min(size, part.total):
                break
            if done == 0 and check is not None:
                check(data, part.total)
            if not data:
                break
            file.write(data)
            done += len(data)
            if progress is not None:
                progress(done, part.total)
    if part.total is not None and done != part.total:
        raise _Broken(f"it ended after {done} of {part.total} bytes")


def _goes_on(response: _Response, part: PartialDownload) -> bool:
    """Whether a partial answer begins where the part ends and has the same version."""
    said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if said is None or int(said[1]) != part.size:
        return False
    same_length = said[2] == "*" or part.total in (None, int(said[2]))
    return same_length and _validator(response) in ("", part.validator)


def _validator(response: _Response) -> str:
    """A strong ETag, or else the date; a weak ETag does not promise equal bytes (RFC 9110, 8.8.1)."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _length(response: _Response) -> int | None:
    said = response.headers.get("Content-Length", "")
    return int(said) if said.isdecimal() else None


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    said = f"HTTP {error.code} {error.reason}".strip()
    if error.code in (404, 410):
        return FileNotFoundError(f"{url}: {said}")
    if error.code in _PASSING:
        wait = error.headers.get("Retry-After", "")
        return _Broken(said, float(wait) if wait.isdecimal() else 0.0)
    if error.code in (401, 403):
        return WeightsRefused(
            f"{url}: the host does not give it out ({said}): a login or an agreement may be wanted, or a quota is used up; "
            "download it in a browser and give the path of the file"
        )
    return WeightsRefused(f"{url}: the host answers {said}")


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return f"{type(cause).__name__}: {cause}" if isinstance(cause, Exception) else str(cause)
