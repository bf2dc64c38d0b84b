"""The media files below a folder. Reads folders and the marks of results folders; opens no video.

- Taken: files whose suffix is in MEDIA, the suffixes of the containers that the readers open. Tar files are listed
  apart (`shards`).
- Left out: hidden files and folders, those that systems make for themselves (SYSTEM), and results folders of this
  project, whichever they are: their clips and rendered videos would become input.
- Links to folders are followed, each folder once, so loops end. A link to a file or folder that was found already gives
  nothing new; real names come first. Hard links are files of their own, which `data.manifest` warns of.

What was left out is logged: how many of which suffix, with an example of each.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from config.cli import UserError
from config.files import read_json
from config.pipeline import SHARD

log = logging.getLogger("manifest")

MEDIA = set(
    ".3g2 .3gp .asf .avi .divx .dv .f4v .flv .m2t .m2ts .m4v .mk3d .mkv .mov .mp4 .mpe .mpeg .mpg .mts .mxf .nut .ogm "
    ".ogv .qt .rm .rmvb .tp .trp .ts .vob .webm .wmv".split()
)
"""`.ogg` is not among them: by convention it is audio alone, and video in that container is `.ogv`."""
SAFE = " !#$&'()+,;=@[]{}~"
"""Besides letters and digits, what stays as it is in an id that is made of a path."""
SYSTEM = {
    "$recycle.bin", "system volume information", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot",
    "lost+found", "__macosx",
}  # fmt: skip


def is_results(folder: str | Path) -> bool:
    """Return whether a folder is a results folder of this project, by its config.json or manifest.json."""
    marks = (("config.json", {"results", "segments", "backbones"}), ("manifest.json", {"rows", "sha256"}))
    for name, keys in marks:
        path = Path(folder, name)
        try:
            content = read_json(path) if path.is_file() else None
        except (UserError, OSError):
            continue
        if isinstance(content, dict) and keys <= set(content):
            return True
    return False


class Scan:
    """One walk through a folder. `files`, `shards`: paths in the order of their names, real ones before those behind
    links."""

    def __init__(self, folder: Path, results: Path | None = None) -> None:
        self.folder = str(folder)
        self.files: list[str] = []
        self.shards: list[str] = []
        self._results = _identity(results) if results is not None else None
        self._ancestors = {_identity(parent) for parent in Path(os.path.realpath(folder)).parents}
        self._links: list[str] = []
        self._folders: set[tuple[int, int]] = set()
        self._left_out: dict[str, list[str]] = {}
        self._walk(self.folder)
        self._follow()

    def _note(self, kind: str, path: str) -> None:
        self._left_out.setdefault(kind, []).append(os.path.relpath(path, self.folder))

    def _walk(self, folder: str) -> None:
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            identity = _identity(current)
            if identity is None or identity in self._folders:
                continue
            if current != self.folder and (identity == self._results or is_results(current)):
                self._note("results folders", current)
                continue
            self._folders.add(identity)
            waiting += reversed(list(self._entries(current)))

    def _entries(self, folder: str) -> Iterator[str]:
        """Sort what is in a folder; yield its real subfolders in the order of their names."""
        try:
            with os.scandir(folder) as iterator:
                entries = sorted(iterator, key=lambda entry: entry.name)
        except OSError:
            self._note("folders that cannot be read", folder)
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in SYSTEM:
                self._note("hidden or system files and folders", entry.path)
            elif entry.is_symlink() and os.path.exists(entry.path):
                self._links.append(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                yield entry.path
            else:  # a link to nothing counts as a file: reading it says that it is missing
                self._take(entry.path)

    def _take(self, path: str) -> bool:
        suffix = os.path.splitext(path)[1].lower()
        if suffix in MEDIA:
            self.files.append(path)
            return True
        if suffix == SHARD:
            self.shards.append(path)
            return True
        self._note(suffix or "files without a suffix", path)
        return False

    def _follow(self) -> None:
        """Go through the links, in rounds: a linked folder may hold more of them."""
        files: set[tuple[int, int] | None] | None = None
        while self._links:
            link = self._links.pop(0)
            identity = _identity(link)
            if os.path.isdir(link):
                if identity in self._folders or identity in self._ancestors:
                    self._note("links to folders that are there already", link)
                else:
                    before, earlier = len(self.files), len(self.shards)
                    self._walk(link)
                    if files is not None:
                        files |= {_identity(path) for path in self.files[before:] + self.shards[earlier:]}
                continue
            if files is None:
                files = {_identity(path) for path in self.files + self.shards}
            if identity in files:
                self._note("links to files that are there already", link)
            elif self._take(link):
                files.add(identity)

    def report(self) -> None:
        """Log what was left out: a line, or none."""
        parts = [
            f"{len(paths)} × {kind} ({ascii(min(paths))[1:-1]})"
            for kind, paths in sorted(self._left_out.items(), key=lambda item: (-len(item[1]), item[0]))
        ]
        if parts:
            log.warning("left out of %s: %s", self.folder, ", ".join(parts))


def _identity(path: str | Path | None) -> tuple[int, int] | None:
    """Return device and inode of the target of a path; None if it does not exist."""
    try:
        status = os.stat(path) if path is not None else None
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status else None
