"""Tests that share what takes minutes to make run in one process: `tests/conftest.py` groups them."""

import pytest


def test_the_group_is_in_the_name(request):
    # pytest-xdist reads a group from the end of a test's name; a pytest in which it cannot write there groups nothing.
    if not hasattr(request.config, "workerinput"):
        pytest.skip("for processes of pytest-xdist")
    (group,) = request.node.get_closest_marker("xdist_group").args
    assert request.node.nodeid.endswith(f"@{group}")
