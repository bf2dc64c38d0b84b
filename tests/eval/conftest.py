"""The report that the tests of its parts look at, made once."""

from pathlib import Path

import pytest

from tests.support.report import make_report


@pytest.fixture(scope="session")
def report_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a report."""
    return make_report(tmp_path_factory.mktemp("report"))
