"""Search the collection with a new audio or video file, or with one of its own videos.

Reads the plan, the manifest, one training's checkpoint and embeddings (`snakemake embeddings`), and the files. Prints
the most similar videos with the seconds at which they match best; writes the files that it is asked for:
  --json FILE, --csv FILE   the same as data; - is the standard output, in place of the table
  --html FILE               one page with a still and a player of each match, which loads nothing from elsewhere
Audio is compared with the videos' video and video with their audio; with --same also within each modality. What is an
id of the collection is taken from its embeddings; everything else is a file, and read anew.

example: python -m eval.query --config results/demo/config.json --experiment recommended_lite song.mp3
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from argparse import ArgumentParser
from pathlib import Path

from config.cli import UserError, parser, positive, printable, run
from config.files import replacing
from config.model import read
from data.splits import SPLITS
from eval.query.answer import Answer
from eval.query.query import Query
from eval.query.scan import LEVELS
from eval.query.text import COLUMNS, as_json, as_rows, as_text, why_not

log = logging.getLogger("query")


def command_line_parser() -> ArgumentParser:
    """Return the parser of the command line."""
    command_line = parser(__doc__, "eval.query")
    command_line.add_argument(
        "items", nargs="+", metavar="FILE_OR_ID", help="audio or video files, or ids of the collection"
    )
    command_line.add_argument("--experiment", required=True, metavar="NAME", help="which of heads.experiments")
    command_line.add_argument("--seed", type=int, metavar="N", help="which of heads.seeds (default: the first)")
    command_line.add_argument("--top", type=positive, default=10, metavar="N", help="how many matches (default 10)")
    command_line.add_argument(
        "--split", choices=("all", *SPLITS), default="all", help="only among these videos (default all)"
    )
    command_line.add_argument("--same", action="store_true", help="also search audio by audio and video by video")
    command_line.add_argument(
        "--level", choices=LEVELS, default="video", help="rank by whole videos (default) or by their best segment"
    )
    command_line.add_argument("--threads", type=positive, metavar="N", help="cores of the search (default: all)")
    for name in ("json", "csv"):
        command_line.add_argument(
            f"--{name}", metavar="FILE", help=f"write the matches as {name.upper()}; - for the output"
        )
    command_line.add_argument("--html", metavar="FILE", help="write a page with stills and players")
    return command_line


def main() -> None:
    """Run the command line."""
    arguments = command_line_parser().parse_args()
    check_targets({name: getattr(arguments, name) for name in ("json", "csv", "html")})
    query = Query(read(arguments.config), arguments.experiment, arguments.seed, arguments.threads)
    if any(query.record["random_weights"].values()):
        names = ", ".join(name for name, is_random in query.record["random_weights"].items() if is_random)
        log.warning("%s has RANDOM weights: matches by it mean little", names)
    split = None if arguments.split == "all" else arguments.split
    answers = query.search_all(arguments.items, arguments.top, split, arguments.same, arguments.level)
    texts = {}
    if arguments.json:
        written = as_json(query, answers, split, arguments.level)
        texts[arguments.json] = json.dumps(written, indent=1, ensure_ascii=False) + "\n"
    if arguments.csv:
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *as_rows(answers)])
        texts[arguments.csv] = file.getvalue()
    for target, text in texts.items():
        if target == "-":
            print(text, end="")
        else:
            write_text(Path(target), text)
    if "-" not in texts:
        print(as_text(answers))
    else:  # rows of CSV do not say what is missing among them
        for answer in answers:
            for reason, modalities in why_not(answer).items():
                shown = printable(answer.query, 300), modalities, printable(reason, 300)
                log.warning("%s is not searched by its %s: %s", *shown)
    if arguments.html:
        from eval.query.page import page  # only here: it needs the report's modules

        write_text(Path(arguments.html), page(query, answers))
    refuse_nothing(answers)


def check_targets(targets: dict[str, str | None]) -> None:
    """Raise UserError for a file whose name ends otherwise, for a page on the standard output, and for two texts there.

    `--csv song.mp3 other.mp3` would overwrite the song. targets: {`json`, `csv`, `html`: the value, None without one}.
    """
    for option, target in targets.items():
        if target is not None and target != "-" and not target.lower().endswith(f".{option}"):
            raise UserError(f"--{option} {target}: the name of the file to write ends in .{option}")
    if targets["html"] == "-":
        raise UserError("--html -: a page is not printed; give it a file, such as answers.html")
    if targets["json"] == targets["csv"] == "-":
        raise UserError("--json and --csv: both are -; give one of them a file")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all. Titles may hold what is not UTF-8; that becomes question marks."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    log.info("wrote %s", os.path.abspath(path))


def refuse_nothing(answers: list[Answer]) -> None:
    """Raise UserError if nothing at all could be searched; what could is shown before."""
    if not any(answer.searches for answer in answers):
        raise UserError("nothing was searched: none of the queries has audio or video that can be read (see above)")


if __name__ == "__main__":
    run(main)
