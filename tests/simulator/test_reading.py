"""Labels and subject of a prompt."""

from __future__ import annotations

import pytest

from mistral_nb.simulator.reading import find_labels, last_message, plain_text, subject


@pytest.mark.parametrize(
    ("prompt", "labels", "text"),
    [
        (
            "Which label: positive, negative or neutral? Review: this is awful",
            ["positive", "negative", "neutral"],
            "this is awful",
        ),
        ("Classify as spam or ham.\n\nText: You won", ["spam", "ham"], "You won"),
        (
            "Choose one of [billing, login]: I cannot log in",
            ["billing", "login"],
            "I cannot log in",
        ),
        ("Labels: a, b, c\nTicket: hello there", ["a", "b", "c"], "hello there"),
        (
            "Pick one:\n- card lost\n- top up\n\nmessage: I lost it",
            ["card lost", "top up"],
            "I lost it",
        ),
        (
            "Is it cheap or expensive? The bike cost 3000.",
            ["cheap", "expensive"],
            "The bike cost 3000.",
        ),
        (
            "Categories: 'billing issue', 'bug'. Customer message: My invoice is wrong.",
            ["billing issue", "bug"],
            "My invoice is wrong.",
        ),
        ("Which intent? Where is my card", [], "Where is my card"),
        ("What is the capital of France?", [], "What is the capital of France?"),
        (
            "Explain why classes and functions matter",
            [],
            "Explain why classes and functions matter",
        ),
        ('Rate this.\n"""\nIt is fine.\n"""', [], "It is fine."),
        ("Read <doc>the inner text</doc> and answer", [], "the inner text"),
    ],
)
def test_a_prompt_is_read(prompt: str, labels: list[str], text: str) -> None:
    """Labels are found in the usual ways to offer them, and the text without instructions."""
    assert find_labels(prompt) == labels
    assert subject(prompt, labels) == text


def test_a_list_of_sentences_offers_no_labels() -> None:
    """Long items are content, not labels."""
    assert (
        find_labels("- The first of these sentences is long\n- And so is the second of them") == []
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": "u"}], "a"),
    ],
)
def test_content_of_any_shape_has_words(content: object, text: str) -> None:
    """Strings, lists of chunks and null are all read."""
    assert plain_text(content) == text


def test_the_last_message_of_a_role_counts() -> None:
    """Earlier turns do not answer for the last one."""
    messages = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    assert last_message(messages, "user") == "two"
    assert last_message(messages, "system") == ""
