"""The magics, in a real IPython shell, against a server that records what it is asked."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

import mistral_nb as mnb
from mistral_nb import session as sessions
from mistral_nb.errors import StreamCut
from mistral_nb.replies import Reply
from tests.replay import CUT, Replay, delta, sse

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def replay() -> Iterator[Replay]:
    server = Replay()
    server.pieces = sse(delta("the "), delta("answer", "stop"), "[DONE]")
    yield server
    server.close()


@pytest.fixture
def shell(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A shell with the extension loaded and a session on the recording server."""
    monkeypatch.setitem(vars(builtins), "__IPYTHON__", True)  # the shell sets it for good
    made = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    mnb.connect(api_key="k", server_url=replay.url, timeout=5)
    made.run_line_magic("load_ext", "mistral_nb")
    yield made
    InteractiveShell.clear_instance()
    sessions._default.set(None)


def ask(shell: InteractiveShell, line: str, cell: str = "a question") -> Any:
    with capture_output() as said:
        shell.run_cell_magic("mistral", line, cell)
    return said


def test_the_reply_streams_below_and_is_kept(shell: InteractiveShell, replay: Replay) -> None:
    """The cell is the prompt, its text is shown, and -o keeps the Reply."""
    said = ask(shell, "-o answer -m mistral-large-latest -t 0.3 --system 'Be brief.'")
    assert "the answer" in said.stdout
    assert isinstance(shell.user_ns["answer"], Reply)
    sent = replay.requests[0]
    assert sent["messages"] == [{"role": "system", "content": "Be brief."},
                                {"role": "user", "content": "a question"}]  # fmt: skip
    assert (sent["model"], sent["temperature"]) == ("mistral-large-latest", 0.3)


def test_json_asks_for_an_object(shell: InteractiveShell, replay: Replay) -> None:
    """--json sets the response format and nothing else is sent unasked."""
    ask(shell, "--json")
    assert replay.requests[0]["response_format"] == {"type": "json_object"}
    assert "temperature" not in replay.requests[0]


def test_variables_are_filled_only_when_asked(shell: InteractiveShell, replay: Replay) -> None:
    """Braces are sent as they are, unless -f fills them from the notebook."""
    shell.user_ns["name"] = "Ada {x}"
    ask(shell, "", "Hello {name}")
    ask(shell, "-f", "Hello {name}, {{literal}}")
    said = [request["messages"][0]["content"] for request in replay.requests]
    assert said == ["Hello {name}", "Hello Ada {x}, {literal}"]


@pytest.mark.parametrize(
    ("line", "cell", "words"),
    [
        ("-f", "Hello {nobody}", "no variable 'nobody'"),
        ("-f", "{a.b}", "plain names"),
        ("-f", '{"json": 1}', "Double the braces"),
        ("-f", "open {", "Double literal braces"),
        ("-o not-a-name", "x", "not a variable name"),
        ("-o class", "x", "not a variable name"),
        ("", "   ", "cell is empty"),
    ],
)
def test_what_cannot_be_sent_is_explained(
    shell: InteractiveShell, replay: Replay, line: str, cell: str, words: str
) -> None:
    """A slip in the line or the cell is a UsageError, and nothing is sent."""
    with pytest.raises(UsageError, match=words):
        ask(shell, line, cell)
    assert replay.requests == []


def test_a_conversation_goes_on_by_name(shell: InteractiveShell, replay: Replay) -> None:
    """-c NAME sends the earlier turns along; another name begins anew."""
    ask(shell, "-c one", "first")
    ask(shell, "-c one", "second")
    ask(shell, "-c two", "third")
    said = [[m["content"] for m in request["messages"]] for request in replay.requests]
    assert said == [["first"], ["first", "the answer", "second"], ["third"]]


def test_a_turn_without_a_word_is_none(shell: InteractiveShell, replay: Replay) -> None:
    """A reply without text, as one stopped before it began, is not sent along: servers refuse it."""
    said, replay.pieces = replay.pieces, sse(delta("", "stop"), "[DONE]")
    ask(shell, "-c one", "first")
    replay.pieces = said
    ask(shell, "-c one", "second")
    assert [m["content"] for m in replay.requests[-1]["messages"]] == ["second"]


def test_no_stream_shows_the_whole_at_the_end(shell: InteractiveShell) -> None:
    """--no-stream displays the reply once."""
    said = ask(shell, "--no-stream")
    assert [output.data["text/plain"] for output in said.outputs] == ["the answer"]


def test_a_cut_reply_is_told_and_not_kept(shell: InteractiveShell, replay: Replay) -> None:
    """A broken stream says what happened, and no old reply stays under its name."""
    ask(shell, "-o answer")
    replay.pieces = sse(delta("half"), CUT)
    said = ask(shell, "-o answer -c one")
    assert "half" in said.stdout
    assert "broke" in said.stdout + said.stderr
    assert "answer" not in shell.user_ns
    with pytest.raises(StreamCut, match="broke"):
        ask(shell, "--no-stream")


def test_tables(shell: InteractiveShell) -> None:
    """%mistral shows usage, and says so when the simulator is not in use."""
    ask(shell, "")
    usage = shell.run_line_magic("mistral", "usage")
    assert next(iter(usage.columns)) == "replies"
    with capture_output() as said:
        assert shell.run_line_magic("mistral", "simulator") is None
    assert "Not in use" in said.stdout
    with pytest.raises(UsageError, match="models, runs, simulator, usage"):
        shell.run_line_magic("mistral", "nonsense")


def test_help_and_completion(shell: InteractiveShell) -> None:
    """The docstring lists the options, and both magics complete."""
    assert "--conversation" in shell.find_cell_magic("mistral").__doc__
    with provisionalcompleter():

        def words(line: str) -> list[str]:
            return [each.text for each in shell.Completer.completions(line, len(line))]

        assert "usage" in words("%mistral us")
        assert "--no-stream" in words("%%mistral --no")


def test_loading_twice_changes_nothing(shell: InteractiveShell) -> None:
    """%load_ext a second time keeps the same magics, conversations included."""
    before = shell.find_cell_magic("mistral")
    mnb.load_ipython_extension(shell)
    assert shell.find_cell_magic("mistral") == before
