"""Which errors of storage pass, and which do not."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ganinv.errors import DataError, StoreError, StoreUnavailable
from ganinv.store import retrying
from ganinv.store.failures import is_transient, storage_errors


def s3_error(status: int, code: str) -> Exception:
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    response: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    made: Exception = translate_boto_error(ClientError(response, "GetObject"))
    return made


def passing() -> list[Exception]:
    from aiohttp import ClientPayloadError, ServerDisconnectedError
    from botocore import exceptions as boto
    from fsspec.exceptions import FSTimeoutError

    return [
        s3_error(503, "SlowDown"),
        s3_error(500, "InternalError"),
        s3_error(429, "TooManyRequests"),
        boto.EndpointConnectionError(endpoint_url="http://x"),
        boto.ReadTimeoutError(endpoint_url="http://x"),
        boto.ConnectionClosedError(endpoint_url="http://x"),
        boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        ClientPayloadError("not enough data"),
        ServerDisconnectedError(),
        FSTimeoutError(),
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.ESTALE, "stale file handle"),
    ]


def lasting() -> list[Exception]:
    from botocore import exceptions as boto

    return [
        s3_error(403, "AccessDenied"),
        s3_error(404, "NoSuchKey"),
        s3_error(412, "PreconditionFailed"),
        boto.NoCredentialsError(),
        OSError(errno.ENOSPC, "no space"),
        FileNotFoundError(),
        PermissionError(),
        ValueError("a bug"),
        DataError("not a table"),
    ]


@pytest.mark.parametrize("error", passing(), ids=lambda e: type(e).__name__)
def test_what_passes_may_be_tried_again(error: Exception) -> None:
    assert is_transient(error)
    with pytest.raises(StoreUnavailable), storage_errors("read", "s3://b/x"):
        raise error
    wrapped = RuntimeError("somewhere above")
    wrapped.__cause__ = error
    assert is_transient(wrapped)


@pytest.mark.parametrize("error", lasting(), ids=lambda e: type(e).__name__)
def test_what_lasts_is_not(error: Exception) -> None:
    assert not is_transient(error)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(retrying.time, "sleep", slept.append)
    tries: list[int] = []

    @retrying.with_retries
    def call(good_after: int, error: type[StoreError]) -> str:
        tries.append(1)
        if len(tries) <= good_after:
            raise error("no answer")
        return "done"

    assert call(3, StoreUnavailable) == "done"
    assert len(slept) == 3
    assert all(pause / 2 <= seconds <= pause * 1.5 for pause, seconds in zip(retrying.PAUSES, slept, strict=False))
    tries.clear()
    with pytest.raises(StoreUnavailable):
        call(100, StoreUnavailable)
    assert len(tries) == len(retrying.PAUSES) + 1
    tries.clear()
    with pytest.raises(StoreError):
        call(1, StoreError)
    assert len(tries) == 1
