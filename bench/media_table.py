"""What becomes of each file in a folder: both backbones, both video decoders, as a table for people.

    python -m bench.media_table FOLDER        writes bench/results/media_table.json

Runs the real jobs with two short segments a video; only the files' names are kept. R(2+1)D has random weights here
(what is shown is reading); MusicNN's come from `--musicnn FILE`, or are random too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from bench.measure import save
from bench.runs import Run, working_folder, write_table
from config.cli import parser
from pipeline.readers import MediaError
from pipeline.readers.opening import open_media

COLUMNS = {"sound": "audio (MusicNN)", "pyav": "video, `pyav`", "decord": "video, `decord`"}
ONE_SECOND = 1.0
"""A segment for video, so that the short files count too; MusicNN needs three."""


def contents(path: Path) -> str:
    """Return what is in a file, as its container says."""
    try:
        with open_media(str(path)) as media:
            streams = media.container.streams
            codecs = [
                stream.codec_context.name if stream.codec_context else f"{stream.type} of unknown codec"
                for stream in streams
            ]
            length = (media.container.duration or 0) / av.time_base
            return f"{', '.join(codecs)}; {f'{length:.1f} s' if length else 'no duration given'}"
    except MediaError as error:
        return f"not opened: {error}"


def measure(folder: Path, musicnn: str) -> dict[str, Any]:
    """Run all jobs over the regular files of a folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix not in (".tsv", ".txt", ".md"))
    outcomes: dict[str, dict[str, dict[str, str]]] = {path.name: {} for path in files}
    with working_folder() as work:
        table = write_table(work / "media.parquet", [(path.name, path) for path in files])
        network = {"r2plus1d": {"weights": "random", "options": {"fps": 3.0}}}
        runs = {
            "sound": Run(
                work / "sound",
                table,
                {"musicnn": {"weights": musicnn}},
                segments={"count": 2},
                decoding={"failure_ratio": 1.0},
            )
        }
        for decoder in ("pyav", "decord"):
            segments = {"count": 2, "seconds": ONE_SECOND, "window": ONE_SECOND}
            decoding = {"video": decoder, "failure_ratio": 1.0}
            runs[decoder] = Run(work / decoder, table, network, segments=segments, decoding=decoding)
        for column, run in runs.items():
            run.prepare()
            for (part, _), ended in run.extract(patience=300).items():
                if ended.status != 0:
                    raise RuntimeError(f"{part} ended with {ended.status}: {ended.text}")
            (backbone,) = run.config.backbones
            record = run.record(backbone, 0)
            messages = {failure.video_id: failure.message for failure in record.failures} if record else {}
            for name, outcome in run.outcomes(backbone).items():
                outcomes[name][column] = {"outcome": outcome, "message": messages.get(name, "")}
    return {"files": {path.name: {"contents": contents(path), **outcomes[path.name]} for path in files}}


def table(result: dict[str, Any]) -> str:
    """Return the outcomes as Markdown."""
    lines = [f"| file | what is in it | {' | '.join(COLUMNS.values())} |", "|---|---|" + "---|" * len(COLUMNS)]
    for name, row in result["files"].items():
        cells = []
        for column in COLUMNS:
            cell = row[column]
            cells.append(f"**{cell['outcome']}**: {cell['message']}" if cell["message"] else cell["outcome"])
        lines.append(f"| `{name}` | {row['contents']} | {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.media_table", config=False)
    command_line.add_argument("folder", type=Path, help="a folder of media files")
    command_line.add_argument("--musicnn", default="random", help="MusicNN's weights as a local file")
    arguments = command_line.parse_args()
    save("media_table", "python -m bench.media_table FOLDER", measure(arguments.folder, arguments.musicnn))


if __name__ == "__main__":
    main()
