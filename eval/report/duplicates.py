"""What the report shows of near-duplicates, where they were looked for: groups, their videos, retrieval both ways.

Reads duplicates/ (pipeline.duplicates) and each experiment's eval/EXPERIMENT/duplicates.json (eval.duplicates); writes
nothing. The report makes none of them. What was made with other settings, or of features, embeddings or groups that
were replaced since, is not shown.
"""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from config.files import read_json
from config.model import Config
from data.manifest import beside_path
from eval.duplicates import WAYS, differs
from pipeline.duplicates.report import doubtful
from pipeline.features import Features

Json = dict[str, Any]
GROUPS, VIDEOS = 4, 4
"""Groups that the report shows, the largest first, and videos of each."""


@dataclass(frozen=True)
class Duplicates:
    """Near-duplicates for the report.

    `record`: duplicates.json; None where they were not looked for, or with other settings, which `doubt` says. `groups`
    are the videos of the first groups. `measured`: by experiment its duplicates.json; experiments without one for
    these groups and embeddings are left out.
    """

    record: Json | None = None
    doubt: str | None = None
    groups: list[list[Json]] = field(default_factory=list)
    measured: dict[str, Json] = field(default_factory=dict)

    @property
    def items(self) -> list[Json]:
        """All videos that are shown, as `eval.report.media` cuts clips of them."""
        return [item for group in self.groups for item in group]

    @property
    def doubtful(self) -> bool:
        """Whether the largest group has more videos than copies of one video would make."""
        return self.record is not None and doubtful(self.record)

    @property
    def in_test(self) -> int:
        """Test videos with a duplicate in the test split, as the experiments' files say; 0 where none was measured."""
        return max((written["videos"] for written in self.measured.values()), default=0)

    @property
    def rows(self) -> list[Json]:
        """A row an experiment, direction and way of counting: every metric with its interval and chance level."""
        rows = []
        for name, written in self.measured.items():
            head = {"experiment": name, "gallery": written["gallery"], "videos_with_duplicates": written["videos"]}
            for line in written["results"]:
                for way in WAYS:
                    flat = {
                        f"{metric}{'' if part == 'value' else f'_{part}'}": number
                        for metric, measured in line[way].items()
                        for part, number in measured.items()
                    }
                    rows.append(head | {"direction": line["direction"], "counted": way} | flat)
        return rows


def duplicates(config: Config, view: Features, embeddings: dict[str, list[str]]) -> Duplicates:
    """Read what there is. `embeddings`: by experiment the digests of those that retrieval.json was measured on."""
    paths = config.paths
    record: Json | None = read_json(paths.duplicates)
    if record is None or not paths.duplicates_table.exists():
        return Duplicates()
    if difference := differs(config, record):
        return Duplicates(doubt=difference)
    digest = hashlib.sha256(paths.duplicates_table.read_bytes()).hexdigest()
    measured = {}
    for name, digests in embeddings.items():
        written: Json | None = read_json(paths.eval(name) / "duplicates.json")
        if written is not None and written["duplicates"] == digest and written.get("embeddings", digests) == digests:
            measured[name] = written
    return Duplicates(record, None, _groups(paths.duplicates_table, view), measured)


def _groups(table: Path, view: Features) -> list[list[Json]]:
    """Return the first videos of the first groups of duplicates.csv.

    Each has its line of the table, what else the manifest says of its files, and as `start` the second at which its
    middle segment begins (None: unknown).
    """
    with open(table, newline="", encoding="utf-8") as file:
        by_group = groupby(csv.DictReader(file), lambda line: line["group"])
        groups = [list(islice(lines, VIDEOS)) for _, lines in islice(by_group, GROUPS)]
    rows = [int(line["row"]) for lines in groups for line in lines]
    manifest = dict(zip(rows, view.labels(np.array(rows, np.int64)).to_pylist(), strict=True))
    middle = view.start()[:, view.segments // 2]

    def item(line: dict[str, str]) -> Json:
        row = int(line["row"])
        start = float(middle[row]) if math.isfinite(middle[row]) else None
        return {**line, **beside_path(manifest[row]), "start": start}

    return [[item(line) for line in lines] for lines in groups]
