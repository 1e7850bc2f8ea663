"""Which words two texts share: the only understanding the simulated model has."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from math import fsum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["best", "chance", "overlap", "ranked", "stems"]

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")

_STOP_TEXT = """
a an and are as at be been but by can could did do does for from had has have he her his how i if
in into is it its just me my no not of off on or our out she so some than that the their them then
there these they this to too up us was we were what when where which who why will with would you
your am any all about please tell get got
"""
STOP = frozenset(_STOP_TEXT.split())

# Words that often speak for a label, by stem of the label's word.
_SIGNS = {
    "positive": "good great love loved excellent amazing happy perfect best wonderful nice thanks "
    "fantastic enjoyed recommend brilliant awesome pleased delighted helpful",
    "negative": "bad terrible hate hated awful worst broken poor disappointed disappointing "
    "horrible angry useless waste slow refund never rude annoying crash crashes unhappy fails",
    "neutral": "okay average fine normal ordinary",
    "billing": "invoice charge charged payment pay paid refund price subscription card receipt "
    "bill cost money tax vat",
    "refund": "money back return charged reimburse",
    "cancel": "cancellation stop end unsubscribe close terminate",
    "account": "login password sign username profile email locked",
    "login": "password sign log account locked access 2fa code reset",
    "password": "login reset forgot locked",
    "technical": "error bug crash crashes broken fails install update app screen freeze freezes",
    "crash": "freeze freezes frozen closes quits hangs error bug update screen",
    "damaged": "broken crack cracked chipped scratched dent dented bent leaks burst missing "
    "smashed",
    "bug": "error crash crashes broken fails freeze freezes wrong stopped",
    "shipping": "delivery package parcel arrived track tracking ship order courier late",
    "delivery": "package parcel arrived arrive track tracking ship shipping courier late",
    "order": "ordered package item purchase bought parcel",
    "feature": "add wish suggestion support would could option idea dark",
    "question": "how what which where does difference fit suit wondering ask",
    "complaint": "terrible unacceptable disappointed angry bad awful rude",
    "praise": "love thanks great excellent wonderful",
    "urgent": "asap immediately now emergency critical down outage production",
    "high": "urgent asap immediately critical emergency outage",
    "low": "minor whenever someday cosmetic",
    "spam": "winner free prize click lottery viagra offer",
    "sport": "match team game player league goal score",
    "business": "market company shares profit stock bank economy",
    "science": "research study scientists space physics",
    "french": "le la les est une des bonjour merci je vous",
    "german": "der die das ist und ein nicht ich guten danke",
    "spanish": "el los es una que hola gracias por usted",
}


@lru_cache(maxsize=32_768)
def _stem(word: str) -> str:
    """Strip the commonest English endings, so that "charged" meets "charges"."""
    for ending in ("ations", "ation", "ingly", "ments", "ment", "ings", "ing", "edly", "ied"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:  # noqa: PLR2004
            return _bare(word[: -len(ending)] + ("y" if ending == "ied" else ""))
    for ending in ("ies", "ers", "es", "ed", "er", "ly", "s", "al"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:  # noqa: PLR2004
            return _bare(word[: -len(ending)] + ("y" if ending == "ies" else ""))
    return _bare(word)


def _bare(word: str) -> str:
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl":  # noqa: PLR2004
        word = word[:-1]
    return word.rstrip("ey") if len(word) > 3 else word  # noqa: PLR2004


@lru_cache(maxsize=2048)
def stems(text: str) -> frozenset[str]:
    """Return the stems of the telling words in a text or an identifier."""
    words = (word.lower() for word in _WORD.findall(_CAMEL.sub(" ", text).replace("_", " ")))
    return frozenset(_stem(word) for word in words if word not in STOP)


@lru_cache(maxsize=256)
def _profiles(choices: tuple[str, ...]) -> tuple[tuple[dict[str, float], float], ...]:
    """Weigh each choice's stems: a word that many choices share tells little."""
    own = [stems(choice) for choice in choices]
    shared: dict[str, int] = {}
    for words in own:
        for word in words:
            shared[word] = shared.get(word, 0) + 1
    profiles = []
    for words in own:
        weights = {word: 1.0 / shared[word] for word in words}
        length = fsum(weights.values()) ** 0.5 or 1.0
        for word in sorted(words):
            for sign in _signs().get(word, ()):
                weights.setdefault(sign, 0.5 / shared[word])
        profiles.append((weights, length))
    return tuple(profiles)


@lru_cache(maxsize=1)
def _signs() -> dict[str, frozenset[str]]:
    return {_stem(label): stems(signs) for label, signs in _SIGNS.items()}


def overlap(choice: str, text: str) -> float:
    """Return how strongly a text speaks for one choice; 0 is not at all."""
    return ranked((choice,), text)[0][0]


def ranked(choices: Sequence[str], text: str) -> list[tuple[float, int]]:
    """Score choices against a text.

    Args:
        choices: Labels, tool descriptions, enum values.
        text: What speaks for one of them.

    Returns:
        Score and position of each choice, in the order given.
    """
    said = stems(text)
    out = []
    for number, (weights, length) in enumerate(_profiles(tuple(choices))):
        # fsum: a set's order differs from process to process, and with it a sum's last digit.
        out.append((fsum(weights[word] for word in said & weights.keys()) / length, number))
    return out


def best(choices: Sequence[str], text: str, seed: object = 0) -> tuple[int, float]:
    """Choose for a text; without any shared word, by a throw that is always the same.

    Args:
        choices: At least one.
        text: What speaks for one of them.
        seed: Mixed into the throw.

    Returns:
        Position of the choice, and its score.
    """
    scores = ranked(choices, text)
    top = max(score for score, _ in scores)
    if top <= 0:
        return int(chance(seed, text, *choices[:1]) * len(choices)), 0.0
    return next(number for score, number in scores if score == top), top


def chance(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the parts only."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=7).digest()
    return int.from_bytes(digest) / (1 << 56)
