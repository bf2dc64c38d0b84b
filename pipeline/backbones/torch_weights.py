"""Weights that PyTorch saved: local state dicts, and downloads of torchvision's own. Writes only into a given folder.

A pickle is read with `weights_only`, so that a file from elsewhere runs no code. Each function raises UserError that
begins with `key`; `kinds` is what a local file should be, in words.
"""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from config.cli import UserError
from pipeline.weights import refuse_in_a_job, unavailable

log = logging.getLogger(__name__)


def read_state(path: Path, key: str, kinds: str) -> dict[str, torch.Tensor]:
    """Return the state dict of a `.pth` file."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an untrusted file can make the unpickler raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{key}: {path} cannot be read as tensors: {reason[0]} It should be {kinds}.") from None
    if not isinstance(state, dict):
        raise UserError(f"{key}: {path} holds a {type(state).__name__}, not a state dict. It should be {kinds}.")
    return state


def arrays(
    state: dict[str, torch.Tensor], unused: Callable[[str], bool], where: str, key: str, kinds: str
) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict that are not `unused`, all of which must be float32, as arrays."""
    needed = {str(name): value for name, value in state.items() if not unused(str(name))}
    for name, value in needed.items():
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise UserError(f"{key}: '{name}' of {where} is {kind}, not a float32 tensor. It should be {kinds}.")
    return {name: value.detach().numpy() for name, value in needed.items()}


def from_hub(url: str, source: str, folder: Path, key: str, kinds: str) -> dict[str, torch.Tensor]:
    """Read the weights at `url` from torch's own download cache, or download them into `folder`; checked by their hash.

    `source` is what the configuration calls them.
    """
    name = url.rpartition("/")[2]
    start = name.removesuffix(".pth").rpartition("-")[2]  # torch.hub's convention: NAME-<start of the sha256>.pth
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    if cached.is_file():
        with cached.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest().startswith(start):
                return read_state(cached, key, kinds)
        log.warning("%s is damaged (its sha256 does not start with %s); downloading it again", cached, start)
    refuse_in_a_job(key, source)
    log.info("downloading %s", url)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # a firewall that drops packets would otherwise stall the run without a message
    try:
        torch.hub.download_url_to_file(url, str(folder / name), hash_prefix=start, progress=False)
    except (OSError, RuntimeError) as error:  # URLError and time-outs are OSErrors, a wrong hash is a RuntimeError
        raise unavailable(key, source, f"downloading {url} failed: {error}", kinds) from None
    finally:
        socket.setdefaulttimeout(timeout)
    return read_state(folder / name, key, kinds)
