"""Continuous integration accepts no skip of a test that needs chromium, redis or npm."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

MARKED = """
import pytest

@pytest.mark.{mark}
def test_it():
    pytest.skip("no such program")
"""


@pytest.fixture
def run(pytester: pytest.Pytester, request: pytest.FixtureRequest):
    """Run a file of tests with the plugin."""
    pytester.makeini("[pytest]\nmarkers =\n    browser\n    redis\n    foreign\n    other\n")
    pytester.syspathinsert(request.config.rootpath)

    def run(text: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        return pytester.runpytest_inprocess("-p", "tests.require_all", "-p", "no:cacheprovider")

    return run


@pytest.mark.parametrize("mark", ["browser", "redis", "foreign"])
def test_a_skipped_marked_test_fails(run, mark: str):
    """The skip of a marked test becomes a failure that quotes the reason."""
    result = run(MARKED.format(mark=mark))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*may not be skipped here. *no such program*"])


def test_a_mark_on_the_file_counts_too(run):
    """A marker set for a whole file is as binding as one on the test."""
    marked = "pytestmark = pytest.mark.browser\n"
    run(MARKED.format(mark="other") + marked).assert_outcomes(failed=1)


def test_a_skip_by_condition_fails(run):
    """skipif, which pytest decides before the test runs, is no way around."""
    condition = "@pytest.mark.skipif(True, reason='no')\ndef"
    run(MARKED.format(mark="redis").replace("def", condition)).assert_outcomes(errors=1)


def test_a_file_skipped_as_a_whole_fails(run):
    """A file that skips itself while it is collected may hide marked tests."""
    result = run("import pytest\npytest.importorskip('no_such_module_at_all')")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*may not be skipped as a whole here*"])


def test_other_skips_stay_skips(run):
    """Whatever is not marked may be skipped as ever."""
    run(MARKED.format(mark="other")).assert_outcomes(skipped=1)
