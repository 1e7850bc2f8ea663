"""Each lesson is executed with a home of its own, which goes when the lesson has ended."""

from __future__ import annotations

import os
import tempfile

import pytest

HOME = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Make the home; the kernel inherits the environment."""
    item.stash[HOME] = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    os.environ["MISTRAL_NB_HOME"] = item.stash[HOME].name


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Remove it again."""
    del os.environ["MISTRAL_NB_HOME"]
    item.stash[HOME].cleanup()
