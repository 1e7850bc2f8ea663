"""The tree of exceptions: drawn whole, each class teaching, each error movable and harmless."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import sys
import traceback

import pandas as pd
import pytest

import mistral_nb as mnb
from mistral_nb import errors
from mistral_nb.errors import LABELS, MistralNbError, explanation
from mistral_nb.labelling.quality import evaluate

TABLE = pd.DataFrame({"label": ["a", "b"]})
DRAWN = re.compile(r"^([│ ]*)[├└]── (\w+)(?: \((\w+)\))?  ", re.MULTILINE)


def below(kind: type[MistralNbError]) -> list[type[MistralNbError]]:
    """All classes of the module below one, itself included."""
    ours = [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    return [kind, *(lower for each in ours for lower in below(each))]


TREE = below(MistralNbError)


def made(kind: type[MistralNbError]) -> MistralNbError:
    """An error of a class, with what else it needs."""
    extra: dict[type[MistralNbError], dict[str, object]] = {
        errors.ApiError: {"status_code": 418, "code": "1300", "retry_after": 2.5},
        errors.JobError: {"job_id": "j", "status": "failed"},
        errors.MissingPackage: {"package": "p", "extra": "e"},
    }
    options = next((extra[each] for each in kind.__mro__ if each in extra), {})
    return kind("Something", **options)


def test_the_tree_is_drawn_whole() -> None:
    """The module's docstring draws every class, below its parent and with its built-in base."""
    parents = ["MistralNbError"]
    drawn = {}
    for depth, name, builtin in DRAWN.findall(errors.__doc__):
        level = len(depth) // 4 + 1
        parents[level:] = [name]
        drawn[name] = (parents[level - 1], builtin)
    true = {}
    for kind in TREE[1:]:
        others = [base.__name__ for base in kind.__bases__ if base.__module__ == "builtins"]
        true[kind.__name__] = (kind.__bases__[0].__name__, "".join(others))
    assert drawn == true
    assert list(drawn) == [kind.__name__ for kind in TREE[1:]]


def test_every_class_is_exported() -> None:
    """`errors.__all__` is sorted and has every class."""
    assert errors.__all__ == sorted(errors.__all__)
    assert {kind.__name__ for kind in TREE} <= set(errors.__all__)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_class_teaches(kind: type[MistralNbError]) -> None:
    """A class has words of its own for when, why and what to do, each ending as a sentence."""
    assert kind.__doc__ is not None
    taught = explanation(kind)
    assert list(taught) in (list(LABELS), list(LABELS[:3]))
    for label, text in taught.items():
        assert f"\n{label}: " in inspect.cleandoc(kind.__doc__)
        assert text[0].isupper() or text.startswith("`")
        assert text.endswith((".", "``"))
        assert text.count("``") % 2 == 0


def test_a_derived_class_has_the_words_of_the_one_above() -> None:
    """A class without words of its own takes those of the nearest above it."""

    class Mine(errors.NotFoundError):
        pass

    assert explanation(Mine) == explanation(errors.NotFoundError)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_an_error_survives_the_way_to_another_process(kind: type[MistralNbError]) -> None:
    """Pickled or copied, an error keeps its class, words and attributes."""
    error = made(kind)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_words_of_an_error_cannot_steer_a_terminal() -> None:
    """Escape sequences and reordering marks are left out; lines, tabs and letters stay."""
    error = MistralNbError("rouge\x1b[31m\x07 é\u202e\n\tfin")
    assert str(error) == "rouge[31m é\n\tfin"


MISSING = {
    "redis": ("bullmq", lambda: mnb.Queue("redis://127.0.0.1:1/0")),
    "agents": ("mcp", lambda: mnb.agents.mcp_server("python -c pass")),
    "quality": ("sklearn", lambda: evaluate(TABLE, "label", "label")),
}


@pytest.mark.parametrize("extra", MISSING)
def test_a_missing_package_names_the_command(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever needs a package that is not installed says how to install it."""
    package, call = MISSING[extra]
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(errors.MissingPackage, match=rf'pip install "mistral-nb\[{extra}\]"'):
        call()


def test_a_broken_redis_address_tells_no_password() -> None:
    """An address whose password is taken for a port is refused without quoting it."""
    with pytest.raises(errors.SettingsError) as caught:
        mnb.Queue("redis://:hunter2")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value)).split("Error:", 1)[1]
