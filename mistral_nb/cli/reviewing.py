"""Reviewing labels in a terminal: a row, a line of input, the next row."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from pandas import isna
from pandas.api.types import is_scalar

from mistral_nb.labelling.reports import count

if TYPE_CHECKING:
    from mistral_nb.labelling.reviews import Worklist
    from mistral_nb.widgets.review import Review

__all__ = ["review_in_terminal"]

WIDTH = 88
LONGEST = 2_000
"""Characters of a row's text shown."""
KEYS = "Enter accepts · a number or a label corrects · s skips · u undoes · q quits"


def review_in_terminal(review: Review) -> None:
    """Go through a review's rows, one line of input each; every decision is saved at once.

    Args:
        review: The review; the same one in a notebook goes on where this one was left.
    """
    work = review.worklist
    print(KEYS)
    while (ahead := work.ahead()) and _one(work, ahead[0], review.why_none(ahead[0])):
        pass
    counts = work.counts()
    said = ", ".join(f"{counts[each]:,} {each}" for each in ("accepted", "corrected", "skipped"))
    print(f"{counts['done']:,} of {count(counts['total'])} reviewed: {said}.")


def _one(work: Worklist, place: int, why_none: str) -> bool:
    """Show a row and carry out what is typed; False if the review is to be left."""
    proposed = work.proposed(place)
    counts = work.counts()
    said = [each for each in (work.reason(place), _shown(why_none)) if each]
    print(" · ".join([f"\n{counts['done'] + 1:,} of {counts['total']:,}", *said]))
    text = _shown(work.texts.iloc[place], LONGEST) or "(empty)"
    print(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  "))
    for name, choice in work.opinions(place):
        print(f"  ({_shown(name)} says {_shown(work.labels[choice])})")
    numbered = _numbered(work)
    listed = [
        f"{'*' if number == proposed else ' '}{f'{number + 1} ' * numbered}{_shown(label)}"
        for number, label in enumerate(work.labels)
    ]
    print(textwrap.fill("  ".join(listed), WIDTH, initial_indent="  ", subsequent_indent="  "))
    while True:
        try:
            typed = input("> ").strip()
        except EOFError:
            return False
        if typed == "q" and "q" not in map(str, work.labels):
            return False
        if _carried_out(work, place, typed):
            return True


def _carried_out(work: Worklist, place: int, typed: str) -> bool:
    """Do what was typed; False, and a sentence, if it means nothing."""
    names = [str(label) for label in work.labels]
    if not typed and work.proposed(place) < 0:
        print("This row has no label to accept: choose one, or skip it.")
        return False
    if not typed:
        work.decide(place, work.proposed(place))
    elif typed in names:
        work.decide(place, names.index(typed))
    elif _numbered(work) and typed.isdecimal() and 1 <= int(typed) <= len(names):
        work.decide(place, int(typed) - 1)
    elif typed == "s":
        work.decide(place, None)
    elif typed == "u":
        if work.undo() is None:
            print("There is nothing to undo.")
            return False
    else:
        print(f"{_shown(typed)!r} is no label here. {KEYS}")
        return False
    return True


def _numbered(work: Worklist) -> bool:
    """Return True if labels may be chosen by number: not if they are numbers themselves."""
    return not any(str(label).isdecimal() for label in work.labels)


def _shown(value: Any, longest: int = 80) -> str:
    """Return a cell as a terminal may show it: no control characters, not too long."""
    if is_scalar(value) and isna(value):
        return ""
    text = " ".join(str(value)[: longest + 1].split())
    text = "".join(each for each in text if each.isprintable())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
