"""The small parts: dice, limits, lines of a batch, lasting state, vectors, the model table."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from mistral_nb.errors import StoreError
from mistral_nb.simulator import limits
from mistral_nb.simulator.catalogue import all_models, find_model
from mistral_nb.simulator.embedding import embed
from mistral_nb.simulator.faults import Dice, Faults
from mistral_nb.simulator.lines import RequestLines, append_at, deliver
from mistral_nb.simulator.state import State
from mistral_nb.simulator.validation import ApiProblem
from tests.conftest import SHARED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State(tmp_path / "state")
    yield made
    made.close()


def test_dice_strike_at_the_rate_and_always_alike() -> None:
    """The n-th throw for a fault depends on the seed only, and the share is the rate."""
    faults = Faults(error_rate=0.3, seed=5)
    one, two = Dice(), Dice()
    throws = [one.strikes(faults, "error_rate") for _ in range(1000)]
    assert throws == [two.strikes(faults, "error_rate") for _ in range(1000)]
    assert 240 < sum(throws) < 360
    assert not any(one.strikes(Faults(), "error_rate") for _ in range(100))


@pytest.mark.parametrize("name", ["error_rate", "batch_part", "batch_row_error_rate"])
def test_a_share_lies_between_0_and_1(name: str) -> None:
    """A rate out of range is refused by name."""
    with pytest.raises(ValueError, match=name):
        Faults(**{name: 1.5})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latency", "x"),
        ("cut_after", 1.5),
        ("error_rate", "x"),
        ("drop_done", "no"),
        ("seed", None),
    ],
)
def test_a_fault_is_of_its_kind(name: str, value: object) -> None:
    """A value that no request could be answered with is refused by name."""
    with pytest.raises(ValueError, match=f"{name} must be of the kind"):
        Faults(**{name: value})


@pytest.mark.parametrize("status", [99, 200, 600])
def test_a_failure_has_the_status_of_one(status: int) -> None:
    """What no server would answer a failed request with is refused."""
    with pytest.raises(ValueError, match="error_status must be from 400 to 599"):
        Faults(error_status=status)


def test_a_batch_ends_in_one_of_two_ways() -> None:
    """Other outcomes are refused."""
    with pytest.raises(ValueError, match="batch_outcome"):
        Faults(batch_outcome="LOST")


def test_a_minute_later_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses older than a minute are forgotten, and wait() says how long that takes."""
    now = [100.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    limiter = limits.RateLimiter(requests=2, tokens=10)
    assert limiter.admit()
    limiter.spend(4)
    now[0] += 20
    assert limiter.admit()
    assert not limiter.admit()
    assert limiter.wait() == 40
    assert limiter.headers(4) == {
        "x-ratelimit-limit-req-minute": "2",
        "x-ratelimit-remaining-req-minute": "0",
        "x-ratelimit-limit-tokens-minute": "10",
        "x-ratelimit-remaining-tokens-minute": "6",
        "x-ratelimit-tokens-query-cost": "4",
    }
    now[0] += 41
    assert limiter.admit()
    assert limiter.headers()["x-ratelimit-remaining-tokens-minute"] == "10"


def test_the_wait_lasts_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small old use that is forgotten makes no room where a large later one fills the minute."""
    now = [100.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    limiter = limits.RateLimiter(tokens=10)
    for spent in (1, 20):
        assert limiter.admit()
        limiter.spend(spent)
        now[0] += 30
    assert not limiter.admit()
    assert limiter.wait() == 30
    now[0] += 31
    assert limiter.admit()
    assert limits.RateLimiter(requests=0).wait() == 0


def test_no_limit_no_headers() -> None:
    """Without limits everything is admitted and nothing is told."""
    limiter = limits.RateLimiter()
    assert all(limiter.admit() for _ in range(100))
    assert limiter.headers() == {}


def test_lines_of_several_files_are_read_once_each_in_a_shuffled_order(tmp_path: Path) -> None:
    """Blank lines do not count, every other line comes once, and not in file order."""
    (tmp_path / "a").write_bytes(b"".join(b"a%d\n\n" % n for n in range(20)))
    (tmp_path / "b").write_bytes(b"b0\r\nb1")
    lines = RequestLines([tmp_path / "a", tmp_path / "b"], 0)
    assert len(lines) == 22
    read = [line.strip() for _, line in lines.read(0, 22)]
    assert sorted(read) == sorted([b"a%d" % n for n in range(20)] + [b"b0", b"b1"])
    assert read != sorted(read)
    assert [line for _, line in lines.read(5, 7)] == [line for _, line in lines.read(0, 22)][5:7]


def test_what_a_kill_left_behind_is_written_over(tmp_path: Path) -> None:
    """Only the counted bytes of a working file are kept and delivered."""
    path, target = tmp_path / "part", tmp_path / "out"
    size = append_at(path, 0, [b"one\n"])
    append_at(path, size, [b"uncounted and longer\n"])
    size = append_at(path, size, [b"two\n"])
    assert deliver(path, size, target, Faults()) == (8, 2)
    assert target.read_bytes() == b"one\ntwo\n"


def test_a_lease_belongs_to_one(state: State) -> None:
    """While one owner holds a job nobody else gets it; released or expired, another may."""
    state.add_job(
        "00000000-0000-4000-8000-000000000000",
        endpoint="e",
        metadata=None,
        input_files=[],
        timeout_hours=1,
    )
    job = state.open_jobs()[0]["id"]
    assert state.claim(job, "one", 60)
    assert state.claim(job, "one", 60)
    assert not state.claim(job, "two", 60)
    state.release("one")
    assert state.claim(job, "two", -1)
    assert state.claim(job, "one", 60)
    assert not state.claim("gone", "one", 60)


def test_counts_outlive_the_process(tmp_path: Path) -> None:
    """What was paid, and how often the same was paid again, is there after a restart."""
    first = State(tmp_path / "state")
    for content in (b"a", b"b", b"a"):
        first.pay("chat", content)
    first.count("tokens", 7)
    first.close()
    second = State(tmp_path / "state")
    assert second.counts() == {"tokens": 7, "chat_paid": 3, "chat_repeated": 1}
    second.close()


def test_ids_repeat_with_the_seed_and_never_within_a_home(tmp_path: Path) -> None:
    """The same order and content give the same ids in another home, all different in one."""
    one, two = State(tmp_path / "1", seed=1), State(tmp_path / "2", seed=1)
    ids = [one.new_id("file", "x") for _ in range(5)]
    assert ids == [two.new_id("file", "x") for _ in range(5)]
    assert len(set(ids)) == 5
    one.close()
    two.close()


def test_ids_are_unique_among_threads(state: State) -> None:
    """Several threads get an id each."""
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.extend(state.new_id("job") for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 80


def test_old_leftovers_are_swept(state: State) -> None:
    """Working files of no job are removed, but not young ones, and nothing else."""
    import os

    old = state.part_path("00000000-0000-4000-8000-000000000001", "output")
    young = state.part_path("00000000-0000-4000-8000-000000000002", "output")
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    state.sweep()
    assert (old.exists(), young.exists()) == (False, True)


def test_a_home_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    """The folder is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        State(tmp_path / "file")


def vectors(*texts: str, **options: object) -> list[list[float]]:
    body = {"model": "mistral-embed", "input": list(texts), **options}
    return [entry["embedding"] for entry in embed(body, seed=0, number=0)["data"]]


def test_texts_that_share_words_lie_nearer() -> None:
    """Cosine similarity follows shared words; vectors have length 1 and repeat."""
    one, near, far = vectors("my card was lost", "a lost card", "exchange rates in Paris")

    def similar(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert similar(one, near) > 0.5 > abs(similar(one, far))
    assert similar(one, one) == pytest.approx(1, abs=1e-3)
    assert vectors("my card was lost") == [one]
    assert len(one) == 1024
    assert len(vectors("x", output_dimension=256)[0]) == 256


@pytest.mark.parametrize(
    "body",
    [
        {"model": "mistral-small-latest", "input": "x"},
        {"model": "mistral-embed", "input": "word " * 9000},
        {"model": "mistral-embed", "input": 3},
    ],
    ids=["chat model", "too long", "no text"],
)
def test_bad_embedding_requests_are_refused(body: dict) -> None:
    """400 or 422 with the reason."""
    with pytest.raises(ApiProblem) as caught:
        embed(body, seed=0, number=0)
    assert caught.value.status in {400, 422}


def test_the_models_are_those_of_the_price_table() -> None:
    """Every chat or embedding model that is not retired is known by all its names."""
    table = json.loads((SHARED / "wire" / "models.json").read_text())
    for entry in table:
        wanted = {"chat-completions", "embeddings"} & set(entry["features"])
        if entry["status"] == "Retired" or not wanted or "transcriptions" in entry["features"]:
            continue
        for name in entry["api"]:
            model = find_model(name)
            if name.startswith("voxtral-mini"):
                continue  # the name of a transcription model today
            assert model is not None, name
            assert ("embeddings" in wanted) == ("embed" in model.can)
            assert ("function-calling" in entry["features"]) <= ("tools" in model.can)
            assert entry["ctx"] == ("1M" if model.context == 1 << 20 else f"{model.context >> 10}k")


def test_every_name_has_a_card_that_names_the_others() -> None:
    """A model's id and aliases are each other's aliases."""
    for name, model in all_models().items():
        card = model.card(name)
        assert card["id"] == name
        assert {name, *card["aliases"]} == {model.id, *model.aliases}
