"""The official TypeScript SDK under Node: its tests are written in its own language."""

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
TESTS = FOLDER / "sdk.test.mjs"


def test_the_typescript_sdk_works_unchanged(server: Simulator) -> None:
    """Every test of sdk.test.mjs passes, and none is left out."""
    if shutil.which("node") is None or not (FOLDER / "node_modules").exists():
        pytest.skip("The TypeScript SDK is not installed; `make foreign` installs it.")
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", str(TESTS)],
        env={**os.environ, "SIMULATOR_URL": server.url},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    written = len(re.findall(r"^test\(", TESTS.read_text(encoding="utf-8"), re.MULTILINE))
    assert f"# pass {written}\n" in done.stdout
