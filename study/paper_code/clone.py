"""Identify the code in the clone of the authors' repository. Reads the clone, by git too; writes nothing."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from config.study.paper_code import PAPER_COMMIT, PAPER_FILES, PAPER_MODULES


def described(clone: Path) -> dict[str, Any]:
    """Return the identity of the clone as JSON values.

    `commit` is None where the folder is no git work tree of its own, `changed` whether one of the modules that are run
    differs from that commit (None without git), `files` the sha256 of each, and `examined` whether this is the commit
    that the project's texts speak of.
    """
    files = {name: hashlib.sha256((clone / PAPER_MODULES / name).read_bytes()).hexdigest() for name in PAPER_FILES}
    top = _git(clone, "rev-parse", "--show-toplevel")
    own = top is not None and Path(top).resolve() == clone.resolve()
    commit = _git(clone, "rev-parse", "HEAD") if own else None
    status = _git(clone, "status", "--porcelain", "--", *(str(PAPER_MODULES / name) for name in PAPER_FILES))
    changed = bool(status) if commit is not None and status is not None else None
    return {
        "commit": commit,
        "changed": changed,
        "files": files,
        "examined": commit == PAPER_COMMIT and changed is False,
    }


def words(code: dict[str, Any]) -> str:
    """Say in a few words which code ran."""
    if code["commit"] is None:
        digest = hashlib.sha256("".join(code["files"].values()).encode()).hexdigest()
        return f"a copy without git, sha256 {digest[:12]} of {len(code['files'])} files"
    return f"commit {code['commit'][:7]}" + (", changed" if code["changed"] else "")


def _git(clone: Path, *arguments: str) -> str | None:
    """Return what git prints about the clone; None if it fails, or there is no git."""
    # Without optional locks git only reads: it would refresh the clone's index otherwise.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(clone), *arguments]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return printed.stdout.strip()
