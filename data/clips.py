"""Make the table of videos of a list of public clips, from a folder that has the files.

    python -m data.clips FOLDER config/clips.csv OUT.csv

The list names files of public repositories; the project has the list and no file. Reads the list and every file in
FOLDER that it names, and compares its SHA-256. Writes OUT.csv with the columns `video_id`, `path`, `group` (the source:
the repository that the clip was found in) and `tags` (what is known of the pair: `original`, the audio was recorded
with the frames or chosen for them by a human, or `unknown`). Files that are missing are listed, with their address, and
left out; a file with other content than the list says is an error.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import quote

from config.cli import UserError, parser, run
from config.files import replacing

log = logging.getLogger("clips")


@dataclass(frozen=True)
class Clip:
    """A line of the list; other columns, such as `recording`, are for people."""

    file: str
    source: str
    commit: str
    path: str
    sha256: str
    pair: str

    @property
    def video_id(self) -> str:
        """The file's name without its suffix."""
        return Path(self.file).stem

    @property
    def url(self) -> str:
        """Where the file is published."""
        return f"https://github.com/{self.source}/raw/{self.commit}/{quote(self.path)}"


def read_list(path: Path) -> list[Clip]:
    """Return the clips of a list (CSV). UserError for a list without these columns, a missing value, a clip twice."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8 ({error}); save it as UTF-8") from None
    names = [field.name for field in fields(Clip)]
    clips = []
    for number, row in enumerate(rows, 1):
        if not all(row.get(name) for name in names):
            raise UserError(f"{path}, row {number}: a list of clips has a value in each of {', '.join(names)}")
        clips.append(Clip(**{name: row[name] for name in names}))
        if Path(clips[-1].file).name != clips[-1].file:
            raise UserError(f"{path}, row {number}: {clips[-1].file!r} is not the name of a file")
    for column in ("video_id", "sha256"):
        values = [getattr(clip, column) for clip in clips]
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise UserError(f"{path}: {column} {twice[0]} stands there {values.count(twice[0])} times")
    return clips


def present(clips: list[Clip], folder: Path) -> list[Clip]:
    """Return the clips whose file is in the folder, in their order. UserError for a file with other content."""
    there = []
    for clip in clips:
        path = folder / clip.file
        if not path.is_file():
            log.warning("missing: %s (%s)", path, clip.url)
            continue
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != clip.sha256:
            raise UserError(f"{path} is another file: its sha256 is {sha256}, the list says {clip.sha256}")
        there.append(clip)
    return there


def write_table(clips: list[Clip], folder: Path, out: Path) -> None:
    """Write the table of videos."""
    with replacing(out) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["video_id", "path", "group", "tags"])
        for clip in clips:
            writer.writerow([clip.video_id, str((folder / clip.file).absolute()), clip.source, clip.pair])


def _arguments() -> argparse.Namespace:
    command_line = parser(__doc__, "data.clips", config=False)
    command_line.add_argument("folder", type=Path, metavar="FOLDER", help="folder with the files")
    command_line.add_argument("list", type=Path, metavar="LIST", help="list of clips, such as config/clips.csv")
    command_line.add_argument("out", type=Path, metavar="OUT.csv", help="table of videos to write")
    return command_line.parse_args()


def main() -> None:
    """Run the command line."""
    arguments = _arguments()
    clips = read_list(arguments.list)
    there = present(clips, arguments.folder)
    if not there:
        raise UserError(f"{arguments.folder} has none of the {len(clips)} files of {arguments.list}")
    write_table(there, arguments.folder, arguments.out)
    log.info(
        "%s: %d of %d clips, of %d sources", arguments.out, len(there), len(clips), len({clip.source for clip in there})
    )


if __name__ == "__main__":
    run(main)
