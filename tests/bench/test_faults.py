"""A small version of the fault campaign: two damaged files of each kind and the hostile ones, through the real jobs."""

from pathlib import Path

import numpy as np
import pytest

from bench.damage import DAMAGES, boxes, damaged
from bench.faults import SEED, campaign, good_files, musicnn_weights
from config.files import read_json

pytestmark = pytest.mark.workflow


def test_small_campaign(tmp_path):
    # Random weights save fetching MusicNN's. The readers are the same for the network and for the cheap descriptors.
    backbones = {"pyav": "r2plus1d", "decord": "picture_descriptors"}
    result = campaign(tmp_path, 2 * len(DAMAGES), 3, "random", 60, SEED, huge=False, video_backbones=backbones)
    assert result["problems"] == []
    assert result["network_calls"] == 0
    videos = result["damaged_files"] + result["hostile_files"] + result["good_neighbours"]
    for name, outcomes in result["outcomes"].items():
        assert sum(outcomes.values()) == videos, name
        assert outcomes["ok"] >= result["good_neighbours"], name


def test_the_whole_campaign_has_musicnns_weights(tmp_path):
    record = Path(musicnn_weights(tmp_path / "weights")).with_suffix(".json")
    assert read_json(record)["source"].startswith("PyPI wheel musicnn")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return [path.read_bytes() for path in good_files(tmp_path_factory.mktemp("good") / "good", 2)]


def test_damage_is_damage_and_the_same_again(good):
    first = list(damaged(good, 60, 1))
    assert first == list(damaged(good, 60, 1))
    assert {kind for kind, _, _ in first} == set(DAMAGES)
    same = [kind for kind, which, data in first if data == good[which]]
    assert len(same) <= 3, same  # an extreme number may happen to be the one that stood there


def test_boxes_are_found(good):
    kinds = [kind for _, _, kind in boxes(good[0])]
    assert {b"ftyp", b"moov", b"trak", b"stsz", b"mdat"} <= set(kinds)
    assert [at for at, _, _ in boxes(good[0])] == sorted(at for at, _, _ in boxes(good[0]))
    assert not np.array_equal(good[0], good[1])
