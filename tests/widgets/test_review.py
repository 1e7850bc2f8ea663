"""Laws of the review's kernel half: what it sends to the browser, and what stays without one."""

from __future__ import annotations

import os
import queue
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from jupyter_client.manager import start_new_kernel

from mistral_nb.errors import InputError
from mistral_nb.widgets.review import AHEAD, TEXT_LIMIT, review

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
LIMIT = 30.0


class Notebook:
    """A real kernel, and this test in the place of a browser."""

    def __init__(self, home: Path) -> None:
        env = {**os.environ, "IPYTHONDIR": str(home), "MISTRAL_NB_HOME": str(home)}
        self.manager, self.client = start_new_kernel(env=env)
        self.comm = ""

    def run(self, code: str, *, as_cell: bool = True) -> list[dict[str, Any]]:
        """Run a cell and return the kernel's messages until its end."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        message = self.client.session.msg("execute_request", content)
        message["metadata"] = {"cellId": "c1"} if as_cell else {}
        self.client.shell_channel.send(message)
        heard = []
        for each in self.messages():
            heard.append(each)
            if each["msg_type"] == "error":
                raise AssertionError("\n".join(each["content"]["traceback"]))
            if each["msg_type"] == "comm_open" and "_esm" in each["content"]["data"]["state"]:
                self.comm = each["content"]["comm_id"]
            ours = each["parent_header"].get("msg_id") == message["header"]["msg_id"]
            if ours and each["content"].get("execution_state") == "idle":
                return heard
        raise AssertionError

    def messages(self) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            try:
                yield self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
        raise AssertionError("The kernel fell silent")

    def say(self, action: str, **more: Any) -> dict[str, Any]:
        """Send what a button would send and return the kernel's answer."""
        data = {"method": "custom", "content": {"a": action, "v": "page", **more}}
        content = {"comm_id": self.comm, "data": data}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))
        for each in self.messages():
            if each["msg_type"] == "comm_msg" and each["content"]["data"]["method"] == "custom":
                return each["content"]["data"]["content"]
        raise AssertionError

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    made = Notebook(tmp_path_factory.mktemp("kernel"))
    made.run(
        "import pandas as pd\nfrom pathlib import Path\nfrom mistral_nb.widgets.review import review"
    )
    yield made
    made.stop()


def open_review(notebook: Notebook, table: str, **options: str) -> list[dict[str, Any]]:
    more = "".join(f", {name}={value}" for name, value in options.items())
    return notebook.run(f"df = pd.DataFrame({table})\nr = review(df, text='text'{more})")


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {"text": ["one", "two", "three"], "label": ["a", None, "b"], "_error": [None, "cut", None]}
    )


def test_the_first_answer_has_all_a_page_needs(notebook: Notebook) -> None:
    """A page that comes up gets the labels, the next rows and the counts."""
    open_review(
        notebook,
        "{'text': ['one', 'two'], 'label': ['a', None], 'g': ['b', None], '_error': [None, 'cut']}",
        gold="'g'",
        context_columns="['g']",
    )
    frame = notebook.say("ready")
    assert frame["s"] == {"field": "label", "labels": ["a", "b"], "saved": False, "strangers": 0}
    assert frame["q"] == [1, 0]
    assert frame["r"]["1"] == {
        "k": "1",
        "t": "two",
        "m": 3,
        "l": -1,
        "o": [],
        "y": "No label",
        "d": "cut",
        "c": [["g", ""]],
    }
    assert frame["r"]["0"]["o"] == [["gold", 1]]
    assert frame["c"]["total"] == 2


def test_only_the_next_rows_are_sent(notebook: Notebook) -> None:
    """However long the table, a few rows are known ahead and each is sent once."""
    open_review(notebook, "{'text': [str(n) for n in range(100_000)], 'label': 'a'}")
    frame = notebook.say("ready")
    assert len(frame["r"]) == len(frame["q"]) == AHEAD
    frame = notebook.say("label", i=0, c=0, n=1)
    assert (frame["v"], frame["n"]) == ("page", 1)
    assert list(frame["r"]) == [str(AHEAD)]
    assert frame["q"] == list(range(1, AHEAD + 1))
    assert frame["c"]["accepted"] == 1
    assert list(notebook.say("undo")["r"]) == ["0"]


def test_long_and_broken_texts_can_be_sent(notebook: Notebook) -> None:
    """A long text is cut until the whole is asked for; half a surrogate pair becomes a mark."""
    open_review(
        notebook,
        "{'text': pd.Series(['x' * 1_000_000, '\\ud800\\x00'], dtype=object), 'label': 'a'}",
    )
    frame = notebook.say("ready")
    assert len(frame["r"]["0"]["t"]) == TEXT_LIMIT
    assert frame["r"]["0"]["m"] == 1_000_000
    assert frame["r"]["1"]["t"] == "\ufffd\x00"
    frame = notebook.say("whole", i=0)
    assert frame["f"] == [0, "x" * 1_000_000, 1_000_000]


def test_what_cannot_be_done_is_said_in_the_view(notebook: Notebook, tmp_path: Path) -> None:
    """A decision that cannot be written is answered with the reason, and the row comes again."""
    store = tmp_path / "r.db"
    open_review(notebook, "{'text': ['one'], 'label': 'a'}", store=f"Path({str(store)!r})")
    notebook.say("ready")
    notebook.run(
        "import sqlite3, contextlib\n"
        f"with contextlib.closing(sqlite3.connect({str(store)!r})) as db:\n"
        "    db.execute('DROP TABLE decision')"
    )
    frame = notebook.say("label", i=0, c=0, n=1)
    assert "r.db" in frame["x"]
    assert frame["q"] == [0]
    assert "log says why" in notebook.say("label", i="nonsense", c=0, n=2)["x"]


def test_code_and_keys_are_one_review(notebook: Notebook) -> None:
    """What code decides, the page is told; what the page decides, the table holds."""
    open_review(notebook, "{'text': ['one', 'two', 'three'], 'label': list('aab')}")
    notebook.say("ready")
    heard = notebook.run("r.correct('b')")
    frames = [each for each in heard if each["msg_type"] == "comm_msg"]
    assert frames[-1]["content"]["data"]["content"]["q"] == [1, 2]
    notebook.say("skip", i=1, n=1)
    notebook.run("assert r.table['review'].tolist()[:2] == ['corrected', 'skipped']")
    assert notebook.say("again", n=2)["q"] == [1, 2]


def test_finishing_leaves_a_summary_without_the_widget(notebook: Notebook) -> None:
    """The output is replaced by static HTML; the widget goes when its view has gone."""
    heard = open_review(notebook, "{'text': ['<b>one</b>'], 'label': ['a']}", labels="['a', 'b']")
    shown = next(each["content"] for each in heard if each["msg_type"] == "display_data")
    assert {WIDGET_MIME, "text/html", "text/plain"} <= set(shown["data"])
    notebook.say("ready")
    notebook.say("label", i=0, c=1, n=1)
    updates = [each for each in notebook.run("r.settle()") if "update" in each["msg_type"]]
    assert updates[0]["content"]["transient"] == shown["transient"]
    data = updates[0]["content"]["data"]
    assert set(data) == {"text/html", "text/plain"}
    assert "1 of 1 row, 0 accepted, 1 corrected" in data["text/plain"]
    assert "&lt;b&gt;one&lt;/b&gt;" in data["text/html"]
    content = {"comm_id": notebook.comm, "data": {"method": "custom", "content": {"a": "gone"}}}
    notebook.client.shell_channel.send(notebook.client.session.msg("comm_msg", content))
    assert any(
        each["msg_type"] == "comm_close" and each["content"]["comm_id"] == notebook.comm
        for each in notebook.run("pass")
    )


def test_a_cell_shows_a_review_once(notebook: Notebook) -> None:
    """The review shows when it is made, and not again as the cell's value."""
    heard = notebook.run("review(pd.DataFrame({'text': ['x'], 'label': ['a']}), text='text')")
    shown = [each for each in heard if each["msg_type"] in {"display_data", "execute_result"}]
    assert len(shown) == 1


def test_without_a_screen_the_summary_is_shown(notebook: Notebook) -> None:
    """A program that runs notebooks gets static output and no widget."""
    code = "review(pd.DataFrame({'text': ['x'], 'label': ['a']}), text='text')"
    heard = notebook.run(code, as_cell=False)
    shown = next(each["content"]["data"] for each in heard if each["msg_type"] == "display_data")
    assert set(shown) == {"text/html", "text/plain"}


def test_a_review_can_be_done_in_code() -> None:
    """Accept, correct, skip and undo work without a notebook."""
    reviewed = review(table(), text="text")
    assert reviewed.row["text"] == "two"
    with pytest.raises(InputError, match="no label to accept"):
        reviewed.accept()
    with pytest.raises(InputError, match="not one of the labels"):
        reviewed.correct("z")
    reviewed.correct("a")
    reviewed.accept()
    reviewed.undo()
    reviewed.skip()
    reviewed.accept()
    assert reviewed.row is None
    with pytest.raises(InputError, match="All rows are reviewed"):
        reviewed.skip()
    assert reviewed.counts == {"total": 3, "done": 3, "accepted": 1, "corrected": 1, "skipped": 1}
    assert reviewed.table["label_reviewed"].fillna("-").tolist() == ["-", "a", "b"]
    assert repr(reviewed) == "Review(3 of 3 rows, 1 accepted, 1 corrected, 1 skipped)"
    reviewed.settle()


def test_an_empty_table_has_nothing_to_review() -> None:
    """No rows is not an error if the labels are known."""
    reviewed = review(table().head(0), text="text", labels=["a"])
    assert reviewed.row is None
    assert reviewed.table.empty


def test_the_column_with_the_longest_texts_is_read() -> None:
    """Without a name the longest texts are read, not identifiers, labels or errors."""
    longer = table().assign(id=list("xyz"), _error="a long story about a failure", n=10**30)
    assert review(longer)._work.texts.name == "text"
    with pytest.raises(InputError, match="no column of texts"):
        review(table()[["label", "_error"]])


def test_columns_that_are_not_there_are_named() -> None:
    """A wrong column name is refused before anything is shown."""
    with pytest.raises(InputError, match="context_columns is 'when'"):
        review(table(), text="text", context_columns=["when"])
    with pytest.raises(InputError, match="text is 'body'"):
        review(table(), text="body")
