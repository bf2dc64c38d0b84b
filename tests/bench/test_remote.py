"""A small version of the campaign on the network: faults of a few kinds through the real jobs."""

import pytest

from bench.fault_server import FAULTS, STATUSES
from bench.remote import KINDS, campaign, planned

pytestmark = pytest.mark.workflow


def test_small_campaign(tmp_path):
    result = campaign(tmp_path, 18)
    assert result["problems"] == [] and result["dead_jobs"] == 0
    assert result["faults"] == 18 and result["videos"] == sum(result["outcomes"]["probe"].values())


def test_the_campaign_has_every_fault():
    used = {word.split()[0] for kind in KINDS for word in kind.plan} - {"redirect"}
    assert used == set(FAULTS) | (used & set(STATUSES))
    items = planned(200)
    assert sum(item.kind is not None for item in items) == 200
    assert {item.kind.name for item in items if item.kind} == {kind.name for kind in KINDS}
