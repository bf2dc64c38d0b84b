"""Search the collection with a new audio or video file, or with one of its own videos.

    from eval.query.query import Query

    query = Query("results/demo", "recommended")
    for search in query.search("song.mp3").searches:  # by audio, among all videos
        for match in search.matches:
            print(match.rank, match.video_id, match.cosine, match.moment.start)

Reads config.json, the plan, the manifest, the probe's starts, and one seed's checkpoint and embeddings; of files what
`pipeline.outside` reads. Writes nothing but that module's temporary folder. A file is read by the same readers and
networks as the collection was, and its segments by the same rule; what would differ is refused.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import nn

from config.cli import UserError
from config.heads import MODALITIES, Modality
from config.model import Config, read
from data.columns import FILES
from data.manifest import beside_path, read_manifest
from data.places import File, joined, parse, shown
from data.splits import Split
from eval.query.answer import Answer, Match, Moment, Search
from eval.query.scan import Level, Ranked, best_moment, good_ones, search
from heads.checkpoint import load_checkpoint
from heads.embed import check_keys, embed_block, embeddings_record, open_embeddings
from heads.kernels import kernels
from heads.runs import Run, runs
from pipeline.features import open_features
from pipeline.outside import FileFeatures, OutsideFile, read_files
from pipeline.records import Failure, read_record

ACROSS: tuple[tuple[Modality, Modality], ...] = (("audio", "video"), ("video", "audio"))
WITHIN: tuple[tuple[Modality, Modality], ...] = (("audio", "audio"), ("video", "video"))
COLUMNS = ["video_id", "path", *FILES, "artist", "title", "split", "status"]
NAMES_SHOWN = 5
NO_DIRECTION = "the projection head gives no segment of it a direction"


@dataclass
class _Asked:
    """A query that is being read and embedded: its segments by modality, float16 [segments, embedding]."""

    text: str
    row: int | None
    path: str
    from_file: bool
    starts: np.ndarray
    segments: dict[Modality, np.ndarray] = field(default_factory=dict)
    failures: dict[Modality, list[Failure]] = field(default_factory=dict)


class Query:
    """The embeddings of one training, open to be searched.

    `results`: the results folder or its configuration. `seed`: which of `heads.seeds`; default: the first. `threads`:
    cores of the search; default: all. Raises UserError if embeddings are missing or of other keys than the cache.
    """

    def __init__(
        self,
        results: str | os.PathLike[str] | Config,
        experiment: str,
        seed: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.config = results if isinstance(results, Config) else read(Path(results) / "config.json")
        self.run = _run_of(self.config, experiment, seed)
        if not all(self.config.experiment(experiment).unit):
            raise UserError(
                f"heads.experiments.{experiment}: `normalise: false` compares by dot products, a query by cosines; "
                "search in another experiment"
            )
        self.threads = threads or len(os.sched_getaffinity(0))
        self.sides = self.config.sides(experiment)
        self._view = open_features(self.config.paths, self.threads)
        self.keys = {name: self._view.key(name) for name in self.sides.backbones}
        self.record = embeddings_record(self.run, self.keys, self._view.videos)
        self._stored = {modality: open_embeddings(self.run, modality) for modality in MODALITIES}
        self._table = read_manifest(self.config.paths.manifest, COLUMNS).slice(0, self._view.videos)
        self._starts = self._view.start()

    def search(
        self,
        item: str | os.PathLike[str],
        top: int = 10,
        split: Split | None = None,
        same: bool = False,
        level: Level = "video",
    ) -> Answer:
        """Search with one file or id; see `search_all`."""
        return self.search_all([item], top, split, same, level)[0]

    def search_all(
        self,
        items: Sequence[str | os.PathLike[str]],
        top: int = 10,
        split: Split | None = None,
        same: bool = False,
        level: Level = "video",
    ) -> list[Answer]:
        """Return the `top` most similar videos of each of `items`: ids of the collection, or paths of files.

        Audio is compared with the videos' video and video with their audio; with `same` also within a modality, where
        the query's own video is left out. `split`: only among its videos; retired videos are in none. Raises UserError
        for what is neither an id nor a file. A file that cannot be read is an Answer with its failures.
        """
        asked = [self._asked(os.fspath(item)) for item in items]
        self._read_files([one for one in asked if one.from_file])
        allowed = pc.equal(self._table["status"], "active")
        if split is not None:
            allowed = pc.and_(allowed, pc.fill_null(pc.equal(self._table["split"], split), False))
        mask = allowed.to_numpy().astype(bool)
        answers = [self._answer(one) for one in asked]
        for source, target in ACROSS + (WITHIN if same else ()):
            self._search(asked, answers, source, target, mask, top, level)
        return answers

    def _search(
        self,
        asked: list[_Asked],
        answers: list[Answer],
        source: Modality,
        target: Modality,
        allowed: np.ndarray,
        top: int,
        level: Level,
    ) -> None:
        """Add one direction's search to the answers of all queries that have the source."""
        numbers = [number for number, one in enumerate(asked) if source in one.segments]
        queries = [asked[number].segments[source] for number in numbers]
        rows = [asked[number].row for number in numbers]
        stored = self._stored[target]
        ranked = search(stored, allowed, queries, level, top, rows, source == target, self.threads)
        for number, result in zip(numbers, ranked, strict=True):
            matches = self._matches(asked[number], source, target, result)
            answers[number].searches.append(Search(source, target, result.gallery, result.rank, matches))

    def _matches(self, asked: _Asked, source: Modality, target: Modality, result: Ranked) -> list[Match]:
        blocks = self._stored[target].read(result.rows)
        lines = self._table.take(pa.array(result.rows)).to_pylist()
        matches = []
        for number, (row, line) in enumerate(zip(result.rows.tolist(), lines, strict=True)):
            theirs, ours, cosine = best_moment(blocks[number], asked.segments[source])
            moment = Moment(_known(asked.starts[ours]), _known(self._starts[row, theirs]), cosine)
            about = {name: line[name] for name in ("video_id", "title", "artist", "path")}
            own, similar = row == asked.row, float(result.cosines[number])
            matches.append(Match(rank=number + 1, row=row, cosine=similar, own=own, moment=moment, **about))
        return matches

    def _answer(self, asked: _Asked) -> Answer:
        video_id = None if asked.row is None else self._table["video_id"][asked.row].as_py()
        starts = [float(start) for start in asked.starts if np.isfinite(start)]
        return Answer(asked.text, asked.path, video_id, starts, asked.failures)

    def _asked(self, text: str) -> _Asked:
        """Find out what is asked for: a video of the collection by its id, or a file; UserError if neither."""
        row = pc.index(self._table["video_id"], pa.scalar(_utf8(text), pa.string())).as_py()
        unknown = np.full(self.config.segments.count, np.nan, np.float32)
        if row >= 0:
            asked = _Asked(text, row, self._table["path"][row].as_py(), False, self._starts[row])
            for modality in MODALITIES:
                self._embedded(asked, modality)
            return asked
        path = _path(text)
        if path is None:
            near = difflib.get_close_matches(text, self._table["video_id"].to_pylist(), n=NAMES_SHOWN)
            suggested = f"; near it: {', '.join(near)}" if near else ""
            raise UserError(f"'{text}' is no file, and no video of the collection has this id{suggested}")
        same = (pc.index(self._table["path"], pa.scalar(_utf8(one), pa.string())).as_py() for one in _spellings(path))
        return _Asked(text, next((row for row in same if row >= 0), None), path, True, unknown)

    def beside_path(self, video_id: str | None) -> dict[str, Any]:
        """Return what the manifest says of a video's files beside their path, such as `audio_path`.

        Nothing for None, a file that is no video of the collection.
        """
        row = -1 if video_id is None else pc.index(self._table["video_id"], pa.scalar(video_id, pa.string())).as_py()
        return {} if row < 0 else beside_path(self._table.slice(row, 1).select(FILES).to_pylist()[0])

    def _embedded(self, asked: _Asked, modality: Modality) -> None:
        """Take what the collection has of one modality of a known video."""
        assert asked.row is not None
        segments = self._stored[modality].read(np.array([asked.row]))[0]
        if good_ones(segments).any():
            asked.segments[modality] = segments
            return
        paths, size = self.config.paths, self.config.shard_videos
        records = [read_record(paths.done(name, asked.row // size)) for name in self._side(modality)]
        known = [failure for record in records if record is not None for failure in record.failures]
        failures = [failure for failure in known if failure.row == asked.row]
        asked.failures[modality] = _distinct(failures) or [self._without_direction(asked)]

    def _without_direction(self, asked: _Asked) -> Failure:
        """Return why a query whose features were read cannot be compared."""
        return Failure(-1 if asked.row is None else asked.row, self._id_of(asked), "not_finite", NO_DIRECTION)

    def _side(self, modality: Modality) -> tuple[str, ...]:
        return self.sides.audio if modality == "audio" else self.sides.video

    def _read_files(self, asked: list[_Asked]) -> None:
        """Read, embed and add what each of the files has."""
        if not asked:
            return
        known = [None if one.row is None else self._id_of(one) for one in asked]
        others = [self.beside_path(video_id) for video_id in known]
        files = [OutsideFile(one.path, self._id_of(one), **beside) for one, beside in zip(asked, others, strict=True)]
        results = read_files(self.config, self.sides.backbones, files)
        path = self.run.folder / "checkpoint.safetensors"
        heads, about = load_checkpoint(path)
        check_keys(path, about, self.keys)
        with kernels(self.config.heads.matmul, "cpu"):
            for one, result in zip(asked, results, strict=True):
                one.starts = result.starts
                for modality in MODALITIES:
                    names = self._side(modality)
                    failures = _distinct([result.failures[name] for name in names if name in result.failures])
                    if failures:
                        one.failures[modality] = failures
                        continue
                    segments = _embed(getattr(heads, modality), result, names)
                    if good_ones(segments).any():
                        one.segments[modality] = segments
                    else:
                        one.failures[modality] = [self._without_direction(one)]

    def _id_of(self, asked: _Asked) -> str:
        """Return the id that a file's segments are drawn by: its own in the collection, or its name without suffix (of
        a member, the member's)."""
        if asked.row is not None:
            return str(self._table["video_id"][asked.row].as_py())
        return _utf8(Path(parse(asked.path).name).stem)


def _known(seconds: np.floating[Any]) -> float | None:
    return float(seconds) if np.isfinite(seconds) else None


def _embed(head: nn.Module, result: FileFeatures, names: Sequence[str]) -> np.ndarray:
    """Embed the features of one file, float16 [segments, embedding]."""
    features = np.concatenate([result.features[name] for name in names], axis=1)[None]
    return embed_block(head, features, np.ones(1, bool), "cpu")[0]


def _distinct(failures: list[Failure]) -> list[Failure]:
    """Return the failures without those that say the same of another backbone."""
    by_text = {(failure.reason, failure.message): failure for failure in reversed(failures)}
    return list(by_text.values())[::-1]


def _path(text: str) -> str | None:
    """Return the absolute path of a file, or of a member of a shard, as the manifest has it, or an address.

    None if there is no such file or shard. UserError for a malformed address.
    """
    try:
        place = parse(text)
    except ValueError as error:
        raise UserError(f"'{shown(text)}': {error}") from None
    if place.local is not None and not os.path.exists(place.local):
        return None
    return os.path.abspath(text) if isinstance(place, File) else joined(os.getcwd(), text)


def _spellings(path: str) -> list[str]:
    return list(dict.fromkeys([path, os.path.realpath(path)]))


def _utf8(text: str) -> str:
    """Return a text as the manifest could have it. UserError for a file name that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"the file name {text!r} is not UTF-8; rename the file, or give a link to it") from None
    return text


def _run_of(config: Config, experiment: str, seed: int | None) -> Run:
    """Return the training of a seed. Raises UserError that lists the experiments or seeds if there is none."""
    trainings = runs(config, experiment)
    if seed is None:
        return trainings[0]
    known = {training.seed: training for training in trainings}
    if seed not in known:
        raise UserError(f"--seed {seed}: heads.seeds has {', '.join(map(str, known))}")
    return known[seed]
