"""Shared words decide, and without any the throw is always the same."""

from __future__ import annotations

import pytest

from mistral_nb.simulator.words import best, chance, overlap, ranked, stems


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("charged", "charges"),
        ("refunds", "refunding"),
        ("delivery", "deliveries"),
        ("top-up", "top_up"),
    ],
)
def test_forms_of_a_word_share_a_stem(one: str, other: str) -> None:
    """Endings, case, hyphens and underscores do not matter."""
    assert stems(one) & stems(other)


def test_the_choice_that_shares_words_wins() -> None:
    """Enum values are split at underscores and compared word by word."""
    labels = ["card_arrival", "lost_or_stolen_card", "exchange_rate"]
    assert best(labels, "I think somebody stole it, my card is lost")[0] == 1
    assert best(labels, "What is your exchange rate?")[0] == 2


def test_a_mood_is_told_by_its_signs() -> None:
    """Labels such as positive and negative are known by typical words."""
    labels = ["positive", "negative", "neutral"]
    assert best(labels, "I love it, excellent!")[0] == 0
    assert best(labels, "Awful and broken")[0] == 1


def test_a_rare_word_weighs_more_than_one_that_many_choices_share() -> None:
    """The word "card" in every label says nothing, "pin" in one says all."""
    scores = {n: s for s, n in ranked(["card_pin", "card_fee", "card_limit"], "card pin")}
    assert scores[0] > scores[1] == scores[2]


def test_without_a_shared_word_the_choice_is_always_the_same() -> None:
    """The same text and seed give the same choice, and other texts other ones."""
    labels = [f"label{n}" for n in range(10)]
    assert best(labels, "zzz", 1) == best(labels, "zzz", 1)
    assert len({best(labels, f"zzz{n}", 1)[0] for n in range(50)}) > 3


def test_chance_is_spread_over_the_unit_interval() -> None:
    """Throws lie in [0, 1) and not all on one side."""
    throws = [chance("x", n) for n in range(500)]
    assert all(0 <= throw < 1 for throw in throws)
    assert 0.4 < sum(throws) / len(throws) < 0.6


def test_no_words_no_overlap() -> None:
    """Empty names and texts score nothing and do not fail."""
    assert overlap("", "text") == 0
    assert overlap("name", "") == 0
