"""Clients under Node: their tests are written in their own language."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mistral_nb.simulator import Simulator

pytestmark = pytest.mark.foreign
FOLDER = Path(__file__).with_name("typescript")


@pytest.mark.parametrize("name", ["sdk", "ai"])
def test_clients_under_node(server: Simulator, name: str) -> None:
    """Mistral's TypeScript SDK and Vercel's AI SDK: every test passes, and none is left out."""
    tests = FOLDER / f"{name}.test.mjs"
    if shutil.which("node") is None or not (FOLDER / "node_modules").exists():
        pytest.skip("Node's clients are not installed; `make foreign` installs them.")
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", str(tests)],
        env={**os.environ, "SIMULATOR_URL": server.url},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    written = len(re.findall(r"^test\(", tests.read_text(encoding="utf-8"), re.MULTILINE))
    assert f"# pass {written}\n" in done.stdout
