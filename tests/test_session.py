"""The session and the module-level verbs that use the default one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import mistral_nb as mnb
from mistral_nb import session as sessions
from mistral_nb.errors import ApiError, SettingsError
from tests.replay import Replay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mistral_nb.jobs import Queue
    from mistral_nb.session import Session
    from mistral_nb.simulator import Simulator


@pytest.fixture
def session(simulator: Simulator) -> Session:
    return mnb.connect(api_key="test-key", server_url=simulator.url, timeout=20)


@pytest.fixture
def replay() -> Iterator[Replay]:
    server = Replay()
    yield server
    server.close()


def test_exported_names_are_sorted_and_there() -> None:
    """Every name in __all__ can be had, dir() lists it, and a wrong name is refused."""
    assert mnb.__all__ == sorted(mnb.__all__)
    for name in mnb.__all__:
        assert getattr(mnb, name) is not None
        assert name in dir(mnb)
    with pytest.raises(AttributeError, match="no attribute 'straem'"):
        _ = mnb.straem


def test_connect_sets_the_session_of_module_level_calls(session: Session) -> None:
    """mnb.stream uses the session that was connected last."""
    assert sessions.default_session() is session
    assert mnb.stream("Reply with exactly: hi", show=False).result(20).text == "hi"
    assert list(session.usage().index) == ["mistral-small-latest"]


def test_a_session_says_where_it_talks_to(session: Session, simulator: Simulator) -> None:
    """The repr names server and model, and no key."""
    assert simulator.url in repr(session)
    assert "test-key" not in repr(session)


def test_show_true_prints_in_a_script(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    """Outside a notebook show=True writes the text to stdout; the default writes nothing."""
    session.stream("Reply with exactly: quiet").result(20)
    assert capsys.readouterr().out == ""
    session.stream("Reply with exactly: loud", show=True).result(20)
    assert capsys.readouterr().out == "loud\n"


def test_models_and_usage_are_tables(session: Session) -> None:
    """models() lists what the server offers and can do; usage() adds up what was streamed."""
    models = session.models()
    assert models.index.is_unique
    assert "completion_chat" in models.loc["mistral-small-latest", "can"]
    assert models.loc["mistral-small-latest", "context"] > 0
    replies = [session.stream("2+2?", show=False).result(20) for _ in range(2)]
    usage = session.usage().loc["mistral-small-latest"]
    assert usage["replies"] == 2
    assert usage["total_tokens"] == sum(reply.usage.total_tokens for reply in replies)


def test_bad_settings_are_refused_at_once() -> None:
    """connect() checks its arguments before anything is started."""
    with pytest.raises(SettingsError, match="server_url"):
        mnb.connect(server_url="nowhere")


def test_a_script_that_ends_early_ends(simulator: Simulator) -> None:
    """A script that ignores its handle exits by itself, without a traceback."""
    code = (
        "import mistral_nb as mnb\n"
        f"mnb.connect(api_key='k', server_url={simulator.url!r})\n"
        "mnb.stream('Explain tides in great detail', show=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_practice_leaves_nothing_behind(home: Path, tmp_path: Path) -> None:
    """connect(simulator=True) reaches no server of the environment; its folders go with Python."""
    code = (
        "import mistral_nb as mnb, pandas as pd\n"
        "for _ in range(2):\n"
        "    session = mnb.connect(simulator=True)\n"
        "    run = mnb.label(pd.DataFrame({'t': ['a']}), '{t}', labels=['x', 'y'], show=False)\n"
        "    print(mnb.stream('Reply with exactly: safe', show=False).result().text)\n"
        "mnb.stream('Explain tides in great detail', show=False)\n"
    )
    folder = tmp_path / "tmp"
    folder.mkdir()
    live = {"MISTRAL_API_KEY": "s3cret", "MISTRAL_SERVER_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **live, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = "Using the built-in simulator; replies are simulated.\n"
    assert (done.stdout, done.stderr) == ("safe\n" * 2, said * 2)
    assert list(folder.iterdir()) == []
    assert not home.exists()


def test_models_of_other_servers_are_listed(replay: Replay) -> None:
    """A server that tells less of its models than Mistral's does is no stranger; a page is."""
    session = sessions.Session(sessions.resolve(api_key="k", server_url=replay.url, timeout=5))
    replay.headers = {"content-type": "application/json"}
    told = [
        {"id": "llama", "object": "model", "owned_by": "vllm"},
        {"id": "listing", "capabilities": ["completion", "tools"]},
        {
            "id": "small",
            "max_context_length": 32768,
            "capabilities": {"vision": False, "fim": True},
        },
    ]
    replay.pieces = [json.dumps({"object": "list", "data": told}).encode()]
    table = session.models()
    assert table["can"].to_dict() == {"llama": "", "listing": "completion, tools", "small": "fim"}
    assert table.loc["small", "context"] == 32768
    for other in (b"<html>Welcome</html>", b"[1]", b'{"data": 5}', b'{"data": [5]}', b"\xff"):
        replay.pieces = [other]
        with pytest.raises(ApiError, match="is not Mistral's API"):
            session.models()


def test_threads_that_ask_at_once_get_one_queue(session: Session) -> None:
    """The same arguments give the same queue, also to threads that meet at the first call."""
    together = threading.Barrier(8)

    def ask(_: int) -> Queue:
        together.wait(20)
        return session.queue()

    with ThreadPoolExecutor(8) as pool:
        assert len({id(queue) for queue in pool.map(ask, range(8))}) == 1
