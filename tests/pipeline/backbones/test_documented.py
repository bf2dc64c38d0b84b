"""The backbone that docs/extending.md writes out works: it is registered, gets its weights and gives features."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from config.model import load
from pipeline.backbones import registry
from pipeline.backbones.check import check
from pipeline.backbones.chosen import chosen
from pipeline.weights import prepare
from tests.support.commands import ROOT

SECTION = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8").partition("## A backbone\n")[2]


@pytest.fixture
def mynet(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Do steps 1 and 2 of the page: its code as a module, its entry in the registry."""
    code, entry = re.search(r"```python\n(.*?)```", SECTION, re.S), re.search(r'`"(\w+)": (Entry\(.*?\)),`', SECTION)
    assert code and entry
    module = ModuleType(f"pipeline.backbones.{entry[1]}")
    exec(compile(code[1], "docs/extending.md", "exec", dont_inherit=True), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.REGISTRY, entry[1], eval(entry[2], vars(registry)))
    return module


@pytest.mark.parametrize("weights", ["random", "file"])
def test_the_documented_backbone_works(mynet: ModuleType, weights: str, tmp_path: Path) -> None:
    """Take both kinds of weights, and give each segment the same features alone and beside others."""
    source: dict[str, Any] = {"weights": "random", "seed": 3}
    if weights == "file":
        torch.save(mynet.network().state_dict(), tmp_path / "mynet.pth")
        source = {"weights": str(tmp_path / "mynet.pth")}
    chosen_backbones = {"mynet": source, "r2plus1d": {"weights": "random"}}
    config = load(
        {
            "results": str(tmp_path / "results"),
            "videos": "v.csv",
            "backbones": chosen_backbones,
            "heads": {"audio": "mynet"},
        }
    )
    check(config)
    record = prepare(config, "mynet")
    assert record["random"] == (weights == "random")
    backbone = chosen(config, "mynet").build(config.paths.weights("mynet"), "cpu", 1)
    segments = np.random.default_rng(0).normal(size=(3, 48_000)).astype(np.float32)
    together = backbone.features(segments)
    assert together.shape == (3, backbone.dim) and together.dtype == np.float32 and np.isfinite(together).all()
    alone = np.concatenate([backbone.features(segment[None]) for segment in segments])
    assert np.array_equal(together, alone)
