"""The command `mistral-nb relay`, as a shell has it, and curl as the README shows it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tests.relay.conftest import TOKEN


@pytest.fixture
def command(home):
    env = {**os.environ, "MISTRAL_NB_RELAY_TOKEN": TOKEN}
    arguments = [sys.executable, "-m", "mistral_nb", "relay", "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        yield process, re.search(r"http://\S+:\d+", process.stdout.readline()).group()
        process.kill()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_follows_a_reply(command):
    """`curl -N` prints the events as they come, and the server says how it was reached."""
    _, url = command
    body = '{"prompt": "Reply with exactly: over the wire"}'
    answer = subprocess.run(
        ["curl", "-sN", f"{url}/api/chat/stream", "-H", f"Authorization: Bearer {TOKEN}",
         "-H", "Content-Type: application/json", "-d", body],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    names = re.findall(r"^event: (\w+)$", answer.stdout, re.MULTILINE)
    assert names == ["start", "chunk", "chunk", "chunk", "complete"]


def test_it_ends_when_it_is_told_to(command):
    """SIGTERM stops it in good order, with status 0."""
    process, _ = command
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_a_taken_port_is_said(command):
    """A port that is in use is named in one sentence."""
    _, url = command
    port = url.rpartition(":")[2]
    arguments = [sys.executable, "-m", "mistral_nb", "relay", "--port", port]
    second = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 2
    assert f"port {port}: Address already in use" in second.stderr
    assert "Traceback" not in second.stderr
