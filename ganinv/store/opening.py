"""File systems of data sets and stores, with the settings that S3 needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import fsspec

_S3 = ("s3://", "s3a://")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
"""Scheme of a URL -> the extra of this package that has its file system."""


def open_url(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """(file system, path in it); what fsspec raises for a URL that it does not know passes."""
    try:
        return _opened(url, options)
    except ImportError as error:
        extra = _EXTRAS.get(url.partition("://")[0])
        if extra is None:
            raise
        raise ImportError(f"{error} (pip install 'ganinv[{extra}]')") from error


def _opened(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    if not url.startswith(_S3):
        return fsspec.url_to_fs(url, **options)
    set_checksum_defaults(url, options)
    # With more, s3fs asks for the size of each object before it reads it, in case that it is large enough for several requests.
    fs, path = fsspec.url_to_fs(url, **{"max_concurrency": 1, **options})
    if fs.session is None:
        _read_times_fast(fs)
    return fs, path


def set_checksum_defaults(url: str, options: Mapping[str, Any]) -> None:
    """Storage that speaks S3 but is not AWS often refuses the checksums newer clients add (HTTP 411, torn objects)."""
    if not url.startswith(_S3):
        return
    endpoint = options.get("endpoint_url") or (options.get("client_kwargs") or {}).get("endpoint_url")
    for variable in ("FSSPEC_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        endpoint = endpoint or os.environ.get(variable)
    if endpoint and ".amazonaws.com" not in endpoint:
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")


def _read_times_fast(fs: Any) -> None:
    """Give an s3fs that has no session yet one whose parser knows the form of times in listings. The client's own parser
    guesses the form of each: 16 of the 20 seconds that a listing of 100,000 keys takes this process."""
    from aiobotocore.session import AioSession

    session = AioSession(**fs.kwargs)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    fs.session = session


def _time(value: Any) -> datetime:
    """``2026-11-23T01:11:42.000Z`` as a time; other forms (of headers, numbers) as the client itself reads them."""
    from botocore.utils import parse_timestamp

    if isinstance(value, str) and value[4:5] == "-":
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    return parse_timestamp(value)
