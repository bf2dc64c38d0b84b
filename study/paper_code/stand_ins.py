"""Make the authors' modules importable on a CPU, with what they need and this environment lacks. Changes this process.

Only the driver (study/paper_code/driver.py) calls this, in a process of its own. None of the authors' lines is changed:
what they import or call is put in its place beforehand. Reads and writes no file.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from pipeline.backbones.torchvision_import import import_torchvision

PACKAGE = "thesis_project.mmnet"
"""The name by which the authors' modules import each other; their folder has another one."""
REPLACED = (
    "torchaudio",
    "torchaudio_augmentations",
    "torchaudio_augmentations.augmentations",
    "torchaudio_augmentations.apply",
    "pytorchvideo",
    "pytorchvideo.transforms",
    "sqlitedict",
)
"""Packages of their raw-media code, which is imported but not run here."""
WHERE_MISSING = ("tqdm", "pandas")


class Absent(ModuleType):
    """A module without content: any name can be imported from it, and using what was imported fails."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": _not_there, "__module__": self.__name__})


def _not_there(self: Any, *arguments: Any, **options: Any) -> None:
    raise RuntimeError(f"{type(self).__module__}.{type(self).__name__} is only a stand-in: it should not be used here")


class Log(ModuleType):
    """Stands for the package wandb: keeps what is logged in memory and sends nothing. `lines` holds one dict a call."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.lines: list[dict[str, float]] = []

    def init(self, **options: Any) -> None:
        """Do nothing, where wandb would open a connection."""

    def log(self, values: dict[str, Any]) -> None:
        """Keep the values as numbers."""
        self.lines.append({name: float(value) for name, value in values.items()})


def prepare(modules: Path) -> Log:
    """Prepare this process to import `thesis_project.mmnet.…` from the folder `modules`; return the log of its runs.

    Besides the packages, two things of PyTorch are replaced: `Tensor.cuda`, which is called without a GPU too, returns
    the tensor, and `Variable` drops the argument `volatile`, which PyTorch 0.4 removed (it is always False there).
    """
    import_torchvision()
    # importlib.util.find_spec imports nothing but the parent package.
    lacking = [name for name in WHERE_MISSING if importlib.util.find_spec(name) is None]
    for name in (*REPLACED, *lacking):
        sys.modules[name] = _described(Absent(name))
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
    log = Log()
    sys.modules["wandb"] = _described(log)
    torch.Tensor.cuda = _on_the_cpu  # type: ignore[assignment]
    torch.autograd.Variable = _variable  # type: ignore[assignment,misc]
    package = ""
    for part in PACKAGE.split("."):
        package = f"{package}.{part}" if package else part
        sys.modules[package] = _described(ModuleType(package))
        sys.modules[package].__path__ = []
    sys.modules[PACKAGE].__path__ = [str(modules)]
    return log


def _described(module: ModuleType) -> ModuleType:
    """Give a module the specification that `importlib.util.find_spec` of other packages expects."""
    module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
    return module


def _on_the_cpu(tensor: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
    return tensor


def _variable(data: torch.Tensor, volatile: bool = False) -> torch.Tensor:
    return data


def module(name: str) -> ModuleType:
    """Import a module of the authors, such as `train`."""
    return importlib.import_module(f"{PACKAGE}.{name}")
