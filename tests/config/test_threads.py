"""Threads wait briefly for each other: the policy stands before PyTorch is loaded, whichever module loads it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from config.files import write_json
from config.paths import Paths
from config.threads import NAMES, POLICY
from tests.support.commands import ROOT, execute
from tests.support.simulate import simulate

pytestmark = pytest.mark.workflow

PACKAGES = ("config", "data", "pipeline", "heads", "eval", "study", "bench")

WATCHING = """
import importlib, os, sys

ours = ("config", "data", "pipeline", "heads", "eval", "study", "bench")

class Asked(BaseException):
    pass

class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise Asked

sys.meta_path.insert(0, Watcher())
policy = dict(pair.split("=") for pair in sys.argv[1].split())
for name in sys.argv[2:]:
    for known in [k for k in sys.modules if k.partition(".")[0] in ours]:
        del sys.modules[known]
    for variable in policy:
        os.environ.pop(variable, None)
    asked = False
    try:
        importlib.import_module(name)
    except Asked:
        asked = True
    print(name, asked, all(os.environ.get(v) == value for v, value in policy.items()), flush=True)
"""


def _environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in NAMES} | more


def test_the_policy_stands_whenever_a_module_loads_torch() -> None:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    loads = re.compile(r"^\s*(import torch|from torch)", re.M)
    with_torch = {str(p.relative_to(ROOT))[:-3].replace("/", "."): bool(loads.search(p.read_text())) for p in files}
    names = [name for name in with_torch if not name.endswith("__init__")]
    pairs = " ".join(f"{name}={value}" for name, value in POLICY.items())
    done = execute([sys.executable, "-c", WATCHING, pairs, *names], check=True, env=_environment())
    modules = {
        name: (asked == "True", stands == "True") for name, asked, stands in map(str.split, done.stdout.splitlines())
    }
    assert modules.keys() == set(names)
    # Those that import it inside a function do so later.
    late = [name for name, (asked, stands) in modules.items() if (asked or with_torch[name]) and not stands]
    assert not late
    assert sum(asked for asked, _ in modules.values()) > 30


def test_openmp_hears_it_and_a_users_own_setting_stands() -> None:
    def shown(**settings: str) -> str:
        """What OpenMP says about itself when PyTorch loads it."""
        env = _environment(OMP_DISPLAY_ENV="verbose", **settings)
        return execute([sys.executable, "-c", "import heads.loss"], check=True, env=env).stderr

    assert f"GOMP_SPINCOUNT = '{POLICY['GOMP_SPINCOUNT']}'" in shown()
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in shown()
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in (printed := shown(OMP_WAIT_POLICY="active"))
    assert f"GOMP_SPINCOUNT = '{POLICY['GOMP_SPINCOUNT']}'" not in printed
    assert "GOMP_SPINCOUNT = '300000'" in shown(GOMP_SPINCOUNT="300000")


def test_what_is_computed_does_not_depend_on_how_threads_wait(tmp_path: Path) -> None:
    experiment = {"batch": 32, "max_epochs": 3}
    heads = {"experiments": {"small": experiment}, "seeds": [0]}
    config = simulate(tmp_path / "results", videos=200, dims=(64, 32), heads=heads)
    paths = Paths(tmp_path / "results")
    write_json(paths.config, config.model_dump(mode="json"))
    command = [sys.executable, "-m", "heads.train", "--config", str(paths.config), "--threads", "2"]
    outputs = []
    for settings in ({}, {"GOMP_SPINCOUNT": "300000"}, {"OMP_WAIT_POLICY": "active"}):
        execute(command, check=True, env=_environment(**settings))
        outputs.append(
            [(paths.heads("small") / name).read_bytes() for name in ("checkpoint.safetensors", "metrics.jsonl")]
        )
    assert outputs[0] == outputs[1] == outputs[2]
