"""Imports torchvision, even if its compiled extension does not load beside a CPU build of torch. Writes nothing.

The wheel of the package index is linked against a CUDA torch. Beside a CPU torch its extension cannot be loaded, and
`import torchvision` then fails for one reason only: it registers shape functions for two operators that the extension
would have defined. This defines their bare schemas, if and only if they are missing after the extension was tried.
Models and transforms work then; calling the two operators (`nms`, `qnms`) fails, as it must.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

SCHEMA = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")

kept_alive: list[object] = []
"""The library whose schemas vanish when it is collected; empty where the real extension works."""


def import_torchvision() -> ModuleType:
    """Import and return `torchvision` with its submodules. All code of this project imports it through here."""
    if "torchvision" not in sys.modules:
        complete_operators()
    return importlib.import_module("torchvision")


def complete_operators() -> None:
    """Load torchvision's extension if it can be loaded, then define those of OPERATORS that are still missing."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        loader = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
        extension = importlib.machinery.FileFinder(folder, loader).find_spec("_C")
        if extension and extension.origin:
            try:
                torch.ops.load_library(extension.origin)
            except OSError:
                pass  # linked against another torch: this is what the schemas below are for
    missing = [name for name in OPERATORS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(SCHEMA.format(name))
        kept_alive.append(library)
