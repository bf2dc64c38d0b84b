"""R(2+1)D's weights: downloaded into the results or refused, and no untrusted pickle is run."""

from __future__ import annotations

import os
import pickle
import shutil
import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file

from config.paths import Paths
from tests.support.weights_fixture import get, refused


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network for torch.hub, and an empty cache of its own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def fail(url, *args, **kwargs):
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)


def test_kinetics_out_of_reach(tmp_path, offline):
    message = refused(tmp_path, "r2plus1d", "kinetics400")
    assert "name resolution" in message and "local file" in message and "weights: random" in message


def test_a_download_with_the_wrong_hash(tmp_path, offline, monkeypatch):
    def wrong(url, *args, **kwargs):
        raise RuntimeError('invalid hash value (expected "91a641e6", got "00")')

    monkeypatch.setattr(torch.hub, "download_url_to_file", wrong)
    assert "invalid hash" in refused(tmp_path, "r2plus1d", "kinetics400")


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A state dict file as torchvision publishes it."""
    from pipeline.backbones.torchvision_import import import_torchvision

    path = tmp_path_factory.mktemp("state") / "r2plus1d_18.pth"
    torch.save(import_torchvision().models.video.r2plus1d_18(weights=None).state_dict(), path)
    return path


def test_kinetics_is_downloaded_into_the_results(tmp_path, offline, state, monkeypatch, caplog):
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "r2plus1d_18-91a641e6.pth").write_bytes(b"half a download")
    asked = []

    def download(url, target, hash_prefix, progress):
        asked.append((url, hash_prefix))
        assert Path(target).is_relative_to(tmp_path / "r")
        shutil.copy(state, target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    record = get(tmp_path / "r", "r2plus1d", "kinetics400")
    assert asked == [("https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth", "91a641e6")]
    assert "damaged" in caplog.text and "KINETICS400_V1" in record["source"] and record["weights"] == "kinetics400"
    assert os.listdir(cache) == ["r2plus1d_18-91a641e6.pth"], "torch's own cache was written to"
    names = load_file(Paths(tmp_path / "r").weights("r2plus1d"))
    assert not any(name.startswith("fc.") or name.endswith("num_batches_tracked") for name in names)
    assert get(tmp_path / "l", "r2plus1d", state)["sha256"] == record["sha256"]
    assert get(tmp_path / "r", "r2plus1d", "kinetics400") == record and len(asked) == 1


def test_wrong_state_dicts_are_refused(tmp_path, state):
    good = torch.load(state, weights_only=True)
    name = "layer1.0.conv1.0.0.weight"
    cases = {
        "missing.pth": ({k: v for k, v in good.items() if k != name}, name),
        "shape.pth": (good | {name: good[name][:, :3].clone()}, name),
        "half.pth": ({k: v.half() for k, v in good.items()}, "float16"),
        "nested.pth": ({"state_dict": good}, "state_dict"),
        "list.pth": ([1, 2], "list"),
    }
    for file, (content, message) in cases.items():
        torch.save(content, tmp_path / file)
        assert message in refused(tmp_path / "r", "r2plus1d", tmp_path / file)


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_an_untrusted_pickle_is_not_run(tmp_path):
    trace = tmp_path / "it ran"
    torch.save({"fc.weight": Bomb(str(trace))}, tmp_path / "new.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"fc.weight": Bomb(str(trace))}, protocol=2))
    for name in ("new.pth", "old.pth"):
        assert name in refused(tmp_path / "r", "r2plus1d", tmp_path / name)
    assert not trace.exists()
