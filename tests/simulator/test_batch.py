"""Batch jobs over HTTP: their life, their files, and what may go wrong with them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb.simulator import Faults
from tests.simulator.conftest import Api, row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def until(api: Api, job: dict[str, Any], status: str) -> dict[str, Any]:
    """Read a job until it has a status."""
    limit = time.monotonic() + 20
    while (found := api.get(f"/v1/batch/jobs/{job['id']}").json())["status"] != status:
        assert time.monotonic() < limit, found
        time.sleep(0.02)
    return found


def test_a_job_is_queued_then_runs_then_succeeds(api: Api) -> None:
    """QUEUED, RUNNING while it is held back, SUCCESS with every row once."""
    api.simulator.batch_rate = None
    job = api.job([row(n) for n in range(5)])
    assert job["status"] == "QUEUED"
    assert until(api, job, "RUNNING")["total_requests"] == 5
    assert api.simulator.stats()["batch_rows"] == 0
    api.simulator.batch_rate = 0
    ended = api.ended(job)
    assert (ended["status"], ended["succeeded_requests"]) == ("SUCCESS", 5)
    lines = api.lines(ended["output_file"])
    assert sorted(line["custom_id"] for line in lines) == list("01234")
    assert api.simulator.stats()["batch_rows"] == 5


def test_failed_rows_come_in_three_forms(api: Api) -> None:
    """The reason is a string, an object, or in response.body."""
    api.simulator.faults = Faults(batch_row_error_rate=1)
    ended = api.ended(api.job([row(n) for n in range(6)]))
    assert (ended["output_file"], ended["failed_requests"]) == (None, 6)
    lines = api.lines(ended["error_file"])
    assert {type(line["error"]) for line in lines} == {str, dict, type(None)}
    assert all(line["error"] or line["response"]["body"]["message"] for line in lines)


def test_cancelling_a_held_job_ends_it(api: Api) -> None:
    """A job that does no rows can still be cancelled, and the next one runs."""
    api.simulator.batch_rate = None
    job = api.job([row(1)])
    assert api.post(f"/v1/batch/jobs/{job['id']}/cancel", None).status_code == 200
    assert api.ended(job)["status"] == "CANCELLED"


def test_cancelling_keeps_what_is_done(make_api: Callable[..., Api]) -> None:
    """The output file holds just the rows that were answered before."""
    api = make_api(batch_rate=200)
    job = api.job([row(n) for n in range(2000)])
    while not api.get(f"/v1/batch/jobs/{job['id']}").json()["completed_requests"]:
        time.sleep(0.02)
    api.post(f"/v1/batch/jobs/{job['id']}/cancel", None)
    ended = api.ended(job)
    assert ended["status"] == "CANCELLED"
    assert 0 < len(api.lines(ended["output_file"])) == ended["succeeded_requests"] < 2000


@pytest.mark.parametrize("status", ["FAILED", "TIMEOUT_EXCEEDED"])
def test_a_job_may_end_early(api: Api, status: str) -> None:
    """batch_outcome ends it after batch_part of its rows, which are kept."""
    api.simulator.faults = Faults(batch_outcome=status, batch_part=0.5)
    ended = api.ended(api.job([row(n) for n in range(10)]))
    assert ended["status"] == status
    assert len(api.lines(ended["output_file"])) == 5


def test_jobs_are_filtered_and_paged(api: Api) -> None:
    """By status, metadata and time of creation; pages are counted from 0."""
    jobs = [api.job([row(1)], metadata={"n": str(n)}) for n in range(3)]
    for job in jobs:
        api.ended(job)

    def listed(**query: Any) -> list[str]:
        return [job["id"] for job in api.get("/v1/batch/jobs", **query).json()["data"]]

    ids = [job["id"] for job in jobs]
    assert listed() == ids[::-1]
    assert listed(order_by="created", page=1, page_size=2) == ids[2:]
    assert listed(status="SUCCESS", n="1") == [ids[1]]
    assert listed(status="RUNNING") == []
    assert listed(created_after="2100-01-01T00:00:00Z") == []
    assert len(listed(created_after="2020-01-01T00:00:00Z")) == 3


def test_output_files_may_be_damaged(api: Api) -> None:
    """Lines missing, twice, of nobody, and a last line cut in its middle."""
    faults = Faults(batch_missing=2, batch_duplicates=1, batch_unknown=1, batch_truncated=True)
    api.simulator.faults = faults
    ended = api.ended(api.job([row(n) for n in range(10)]))
    data = api.get(f"/v1/files/{ended['output_file']}/content").content
    assert data.count(b"\n") == 10 - 2 + 1 + 1 - 1
    assert not data.endswith(b"\n")
    assert b"nobody-0" in data


def test_a_job_that_cannot_write_waits_and_holds_nobody_up(api: Api, tmp_path: Path) -> None:
    """What stands in its way keeps one job back, not the next; once it is gone, it goes on."""
    api.simulator.batch_rate = None
    job, other = api.job([row(1)]), api.job([row(2)])
    until(api, job, "RUNNING")
    (folder,) = tmp_path.rglob("jobs")
    obstacle = folder / f"{job['id']}.output.jsonl"
    obstacle.mkdir()
    api.simulator.batch_rate = 0
    assert api.ended(other)["status"] == "SUCCESS"
    assert api.get(f"/v1/batch/jobs/{job['id']}").json()["status"] == "RUNNING"
    obstacle.rmdir()
    assert api.ended(job)["status"] == "SUCCESS"


@pytest.mark.parametrize("line", [b"{", b"[]", {"custom_id": "x", "body": {"model": ["x"]}}])
def test_an_odd_line_fails_alone(api: Api, line: object) -> None:
    """It lands in the error file; the other rows and later jobs are answered."""
    ended = api.ended(api.job([row(1), line]))
    assert (ended["succeeded_requests"], ended["failed_requests"]) == (1, 1)
    assert api.ended(api.job([row(2)]))["status"] == "SUCCESS"
