"""The simulator's page tells the truth about what it offers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mistral_nb.simulator
from mistral_nb.simulator import Faults, start_simulator
from mistral_nb.simulator.catalogue import all_models
from mistral_nb.simulator.chat import MAX_CHOICES
from tests.contract.operations import NOT_OFFERED, OFFERED

PAGE = (Path(mistral_nb.simulator.__file__).parent / "README.md").read_text(encoding="utf-8")
OPERATION = re.compile(r"`((?:(?:GET|POST|PUT|PATCH|DELETE) )+)(/v1/[^`]+)`")


def part(title: str) -> str:
    """Return one section of the page."""
    _, _, found = PAGE.partition(f"## {title}\n")
    assert found
    return found.partition("\n## ")[0]


def named(text: str) -> set[tuple[str, str]]:
    """Return the operations that a text names."""
    return {
        (method, path) for methods, path in OPERATION.findall(text) for method in methods.split()
    }


def test_the_page_lists_what_is_offered() -> None:
    """Its table has every offered operation and no other, and it names what answers 501."""
    assert named(part("What is modelled")) == {(m, p.partition("#")[0]) for m, p in OFFERED}
    assert named(part("What is not")) == NOT_OFFERED


def test_the_page_is_one_page() -> None:
    """Somebody in doubt reads it to the end."""
    assert len(PAGE.split()) < 1000


@pytest.mark.parametrize("option", ["home", "faults", "chunk_delay", "batch_rate"])
def test_the_page_names_real_options(option: str) -> None:
    """What it tells people to set is there to be set."""
    assert option in PAGE
    assert option in start_simulator.__annotations__


def test_the_page_gives_the_right_figures() -> None:
    """Numbers and names in it are those of the code."""
    assert f"`n` is at most {MAX_CHOICES}." in PAGE
    assert "see `Faults`" in PAGE
    assert Faults.__doc__
    thinkers = {name for name, model in all_models().items() if "reasoning" in model.can}
    assert thinkers == {name for name in all_models() if "magistral" in name}
