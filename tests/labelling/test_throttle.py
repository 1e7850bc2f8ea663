"""When requests may start: budgets, adaptive concurrency, pauses and the breaker."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistral_nb.client import RateLimits
from mistral_nb.errors import InputError
from mistral_nb.labelling.throttle import Budget, Permit, Throttle

if TYPE_CHECKING:
    from collections.abc import Awaitable

SIZE = 100


def run(work: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await work

    return asyncio.run(main())


async def all_allowed(throttle: Throttle) -> list[Permit]:
    """Take every permit that is there now."""
    taken = []
    while throttle.pace().in_flight < throttle.pace().limit:
        taken.append(await throttle.acquire(SIZE))
    return taken


async def waits(throttle: Throttle) -> bool:
    """Return whether no request may start now."""
    try:
        async with asyncio.timeout(0.05):
            throttle.give_back(await throttle.acquire(SIZE))
    except TimeoutError:
        return True
    return False


# Budgets


@given(
    limit=st.integers(1, 20),
    gaps=st.lists(st.floats(0, 30, allow_nan=False), max_size=80),
    data=st.data(),
)
def test_no_minute_ever_sees_more_than_the_limit(
    limit: int, gaps: list[float], data: st.DataObject
) -> None:
    """Whatever the pace of asking, any 60 seconds hold at most the limit."""
    budget = Budget(limit)
    now, used = 1000.0, []
    for gap in gaps:
        now += gap
        amount = data.draw(st.integers(1, limit))
        now += budget.wait(amount, now)
        while (more := budget.wait(amount, now)) > 0:
            now += more
        budget.use(amount, now)
        used.append((now, amount))
        assert sum(a for at, a in used if at > now - 60) <= limit


def test_a_budget_is_used_up_and_comes_back() -> None:
    """The wait is as long as the oldest use still counts, and not much longer."""
    budget = Budget(2)
    budget.use(1, 0.0)
    budget.use(1, 30.0)
    assert 60 <= 31 + budget.wait(1, 31.0) <= 61
    assert 90 <= 31 + budget.wait(2, 31.0) <= 91


def test_a_budget_holds_no_more_than_its_slots() -> None:
    """Its memory does not grow with the rate."""
    budget = Budget(1_000_000)
    for number in range(20_000):
        assert budget.wait(1, number / 200) == 0
        budget.use(1, number / 200)
    assert len(budget._slots) <= Budget.SLOTS + 1
    assert 11_900 <= budget._used <= 12_100


def test_an_amount_above_the_limit_goes_alone() -> None:
    """A request larger than the minute's tokens still goes, once nothing else counts."""
    budget = Budget(100)
    assert budget.wait(500, 0.0) == 0
    budget.use(500, 0.0)
    assert 59 < budget.wait(1, 1.0) <= 60


def test_a_correction_counts_where_the_use_was() -> None:
    """What a request turned out to cost replaces the guess, and expires with it."""
    budget = Budget(100)
    slot = budget.use(90, 0.0)
    assert budget.wait(20, 1.0) > 0
    budget.correct(slot, -80)
    assert budget.wait(20, 1.0) == 0
    budget.use(20, 59.0)
    budget.wait(1, 70.0)
    budget.correct(slot, 50)  # long forgotten
    assert budget._used == 20


def test_the_servers_count_of_others_use_counts() -> None:
    """What others used of the limit is not ours to use; a larger own count is kept."""
    budget = Budget()
    budget.sync(60, 10, 0.0)
    assert budget.limit == 60
    assert budget.wait(10, 0.0) == 0
    assert budget.wait(11, 0.0) > 0
    budget.use(10, 0.0)
    budget.sync(60, 55, 1.0)
    assert budget.wait(1, 1.0) > 0


def test_the_lower_of_two_limits_counts() -> None:
    """The person's own limit stays when the server allows more, and gives way to less."""
    budget = Budget(30)
    budget.sync(100, 100, 0.0)
    assert budget.limit == 30
    budget.sync(10, 10, 0.0)
    assert budget.limit == 10


# Concurrency


@pytest.mark.parametrize("argument", [{"most": 0}, {"most": 2, "rpm": 0}, {"most": 2, "tpm": -1}])
def test_limits_that_allow_nothing_are_refused(argument: dict[str, int]) -> None:
    """A limit below 1 is an InputError that names the argument."""
    name = {"most": "concurrency"}.get(list(argument)[-1], list(argument)[-1])
    with pytest.raises(InputError, match=name):
        Throttle(**argument)


def test_no_more_than_the_most_at_once() -> None:
    """It starts at the most, never passes it, and a release lets the next one start."""

    async def work() -> None:
        throttle = Throttle(3)
        permits = await all_allowed(throttle)
        assert len(permits) == 3
        assert await waits(throttle)
        throttle.release(permits[0], "good")
        assert not await waits(throttle)

    run(work())


def test_one_burst_of_429s_halves_once() -> None:
    """Refusals of requests that were under way together are one sign, not many."""

    async def work() -> None:
        throttle = Throttle(64)
        for permit in await all_allowed(throttle):
            throttle.release(permit, "limited")
            if throttle.pace().waiting:  # 16 in a row open the breaker, which is not meant here
                break
            throttle._streak = 0
        assert throttle.pace().limit == 32
        throttle.release(await throttle.acquire(SIZE), "limited")
        assert throttle.pace().limit == 16

    run(work())


@pytest.mark.parametrize(("most", "floor"), [(1, 1), (2, 2), (5, 2), (64, 8), (100, 12)])
def test_429s_never_end_in_single_file(most: int, floor: int) -> None:
    """The limit falls to an eighth of the most and no further."""

    async def work() -> None:
        throttle = Throttle(most)
        for _ in range(40):
            throttle.release(await throttle.acquire(SIZE), "limited")
            throttle._streak = 0
        assert throttle.pace().limit == floor

    run(work())


def test_answers_raise_the_limit_again_to_the_most() -> None:
    """After a halving the limit grows bit by bit, and stops at the most."""

    async def work() -> None:
        throttle = Throttle(16)
        throttle.release(await throttle.acquire(SIZE), "limited")
        grown = []
        for _ in range(400):
            throttle.release(await throttle.acquire(SIZE), "good")
            grown.append(throttle.pace().limit)
        assert grown == sorted(grown)
        assert grown[0] == 8
        assert grown[-1] == 16

    run(work())


def test_refused_requests_change_nothing() -> None:
    """A 422 says that the server is well: no halving, no breaker."""

    async def work() -> None:
        throttle = Throttle(8)
        for _ in range(100):
            throttle.release(await throttle.acquire(SIZE), "refused")
        assert throttle.pace().limit == 8
        assert throttle.pace().waiting == ""

    run(work())


def test_first_come_first_served() -> None:
    """Requests start in the order in which they asked."""

    async def work() -> None:
        throttle = Throttle(1)
        first = await throttle.acquire(SIZE)
        order = []

        async def one(number: int) -> None:
            permit = await throttle.acquire(SIZE)
            order.append(number)
            throttle.release(permit, "good")

        tasks = [asyncio.create_task(one(number)) for number in range(20)]
        await asyncio.sleep(0)
        throttle.release(first, "good")
        await asyncio.gather(*tasks)
        assert order == list(range(20))

    run(work())


def test_a_cancelled_wait_blocks_nobody() -> None:
    """Whoever gives up waiting takes no permit along."""

    async def work() -> None:
        throttle = Throttle(1)
        permit = await throttle.acquire(SIZE)
        assert await waits(throttle)
        assert await waits(throttle)
        throttle.release(permit, "good")
        assert throttle.pace().in_flight == 0
        assert not await waits(throttle)

    run(work())


# Pauses


def test_nothing_starts_before_the_servers_pause_is_over() -> None:
    """However many wait, the first permit comes after the time the server gave."""

    async def work() -> None:
        until = time.monotonic() + 0.3
        throttle = Throttle(8, hold=lambda: until)
        assert "server asked for a pause" in throttle.pace().waiting
        permits = await asyncio.gather(*(throttle.acquire(SIZE) for _ in range(8)))
        assert all(permit.at >= until for permit in permits)

    run(work())


def test_a_pause_that_begins_while_waiting_holds_too() -> None:
    """The pause is looked at again when a place gets free."""

    async def work() -> None:
        hold = [-math.inf]
        throttle = Throttle(1, hold=lambda: hold[0])
        permit = await throttle.acquire(SIZE)
        waiting = asyncio.create_task(throttle.acquire(SIZE))
        await asyncio.sleep(0.01)
        hold[0] = time.monotonic() + 0.2
        throttle.release(permit, "limited")
        assert (await waiting).at >= hold[0]

    run(work())


def test_the_persons_own_pause() -> None:
    """Nothing starts while paused; all goes on afterwards."""

    async def work() -> None:
        throttle = Throttle(2)
        throttle.pause()
        assert throttle.pace().waiting == "paused"
        assert await waits(throttle)
        throttle.pause(False)
        assert not await waits(throttle)

    run(work())


def test_requests_a_minute_are_kept() -> None:
    """No window of the minute's length sees more starts than rpm."""

    async def work() -> list[float]:
        throttle = Throttle(10, rpm=4, minute=0.4)
        starts = []
        for _ in range(11):
            permit = await throttle.acquire(SIZE)
            starts.append(permit.at)
            throttle.release(permit, "good")
        return starts

    starts = run(work())
    assert all(later - first >= 0.4 for first, later in zip(starts, starts[4:], strict=False))


def test_tokens_a_minute_are_kept_and_learnt() -> None:
    """Tokens are set aside by a guess, which the server's own counts make better."""

    async def work() -> None:
        throttle = Throttle(10, tpm=1000)
        for _ in range(60):
            throttle.release(await throttle.acquire(SIZE), "good", tokens=10)
        assert 0.1 <= throttle._tokens_a_byte < 0.12
        assert 600 <= throttle._tokens._used < 610
        for _ in range(36):
            throttle.release(await throttle.acquire(SIZE), "good", tokens=11)
        assert await waits(throttle)
        assert "1,000 tokens a minute" in throttle.pace().waiting

    run(work())


def test_failures_and_refusals_cost_no_tokens() -> None:
    """Only answers use up the budget of tokens."""

    async def work() -> None:
        throttle = Throttle(10, tpm=1000)
        for verdict in ("refused", "limited", "failed"):
            throttle.release(await throttle.acquire(SIZE), verdict)
        assert throttle._tokens._used == pytest.approx(0)
        throttle.give_back(await throttle.acquire(SIZE))
        assert throttle._requests._used == 3

    run(work())


def test_the_servers_limits_are_taken_over() -> None:
    """Rate-limit headers become budgets: with nothing left, nothing starts."""

    async def work() -> None:
        throttle = Throttle(10)
        throttle.sync(RateLimits(requests=60, requests_left=0))
        assert await waits(throttle)
        assert "60 requests a minute" in throttle.pace().waiting

    run(work())


# The breaker


async def fail_until_open(throttle: Throttle, verdict: Any = "failed") -> int:
    failed = 0
    while not throttle.pace().waiting:
        throttle.release(await throttle.acquire(SIZE), verdict)
        failed += 1
    return failed


@pytest.mark.parametrize(("most", "streak"), [(1, 3), (5, 10), (64, 16)])
def test_a_row_of_failures_opens_the_breaker(most: int, streak: int) -> None:
    """So many failures with no answer between them bring a rest."""
    assert run(fail_until_open(Throttle(most))) == streak


def test_an_answer_between_failures_keeps_the_breaker_closed() -> None:
    """Failures at random are no reason to rest."""

    async def work() -> None:
        throttle = Throttle(64)
        for number in range(300):
            throttle.release(await throttle.acquire(SIZE), "good" if number % 10 == 0 else "failed")
        assert throttle.pace().waiting == ""

    run(work())


def test_after_the_rest_one_request_is_tried() -> None:
    """One at a time while open; failing again doubles the rest, an answer ends it."""

    async def work() -> None:
        throttle = Throttle(8, first_rest=0.1)
        await fail_until_open(throttle)
        first = throttle.rested
        opened = time.monotonic()
        probe = await throttle.acquire(SIZE)
        assert probe.at >= opened + 0.08
        assert throttle.pace().limit == 1
        assert await waits(throttle)
        throttle.release(probe, "failed")
        assert throttle.rested - first > 1.5 * 0.1
        probe = await throttle.acquire(SIZE)
        throttle.release(probe, "good")
        assert throttle.rested == 0
        assert throttle.pace().waiting == ""
        assert len(await all_allowed(throttle)) == 2

    run(work())


def test_late_failures_of_one_burst_do_not_lengthen_the_rest() -> None:
    """Requests that were under way when the breaker opened say nothing new."""

    async def work() -> None:
        throttle = Throttle(64, first_rest=0.05)
        permits = await all_allowed(throttle)
        for permit in permits:
            throttle.release(permit, "failed")
        assert throttle.rested < 0.06

    run(work())
