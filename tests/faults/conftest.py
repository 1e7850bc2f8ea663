"""The fixtures of the job queue's tests, for its faults as well."""

from __future__ import annotations

from tests.jobs.conftest import make_queue, offline, redis_server, url

__all__ = ["make_queue", "offline", "redis_server", "url"]
