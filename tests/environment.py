"""Storage that code finds through environment variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest


@contextmanager
def found_by_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Storage that code opens without options, as the environment names it. s3fs keeps what it opened by its options, which
    say nothing of the environment: without an end to that, the next test would ask this one's server."""
    from s3fs import S3FileSystem

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        yield
        S3FileSystem.clear_instance_cache()
