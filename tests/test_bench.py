"""The benches run: short files of every codec, one measurement, the cost of a collection."""

import pytest

from bench import decode, media, modes, plan
from bench.measure import load
from data.manifest import MEDIA
from pipeline.readers.probe import probe


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    return [media.path_of(folder, file) for file in media.render(folder, 3.2)]


def test_files_are_what_they_say(files):
    for path in files:
        found = probe(str(path))
        assert found.duration == pytest.approx(3.2, abs=0.1) and found.has_audio and path.suffix in MEDIA
        assert (found.width, found.height) == (media.WIDTH, media.HEIGHT)


def test_decoders_are_measured(files):
    ours, plain = (decode.one(decoder, str(files[0]), 3.2) for decoder in ("pyav", "plain"))
    assert ours["frames"] == plain["frames"] == 180 and ours["mean"] == pytest.approx(plain["mean"], abs=1e-6)


def test_costs_follow_from_the_results():
    result = load("extract")
    seconds = plan.from_results(result)
    assert set(seconds) == {"musicnn", "r2plus1d"}
    text = plan.words({"a": 3600.0}, 10, 5)
    assert "10 core hours" in text and "2 h 00 min" in text
    assert "not known" in plan.gpu_words(None, 1)


def test_cosine_is_the_lowest():
    import numpy as np

    assert modes.cosine(np.eye(2), np.array([[1.0, 0], [1, 1]])) == pytest.approx(2**-0.5)
