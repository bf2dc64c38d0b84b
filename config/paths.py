"""Paths under the results folder, for the Snakemake rules and the Python modules. Reads and writes nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

LONGEST = 200
"""Characters of a name that is put together from names of the configuration: a file's name has 255 at most."""


def short(name: str) -> str:
    """Return a name as it is or, where no file can have it, its beginning with a digest of the whole."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Paths:
    """Paths of one results folder. `shard` is a number, `backbone` and `experiment` are names of the config."""

    results: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.results / "config.json"

    @property
    def rendered(self) -> Path:
        """Folder of the rendered videos, with their table `videos.csv`."""
        return self.results / "rendered"

    @property
    def manifest(self) -> Path:
        """The manifest, one row per video, append-only. Not an output of Snakemake, which would delete it before a
        rerun."""
        return self.results / "manifest.parquet"

    @property
    def manifest_record(self) -> Path:
        """Record of the manifest, row count and digest: the output that Snakemake watches."""
        return self.results / "manifest.json"

    def labels(self, task: str) -> Path:
        """Return the path of the labels of a task (`genre`, `tagging`) by video."""
        return self.results / "labels" / f"{task}.parquet"

    def labels_record(self, task: str) -> Path:
        """Return the path of the record of a task's labels: counts, matching, what was dropped."""
        return self.results / "labels" / f"{task}.json"

    @property
    def plan(self) -> Path:
        """Number of shards and cache keys: what Snakemake needs to know about the videos."""
        return self.results / "plan.json"

    @property
    def features(self) -> Path:
        """The cache of features, a Zarr v3 group."""
        return self.results / "features.zarr"

    @property
    def superseded(self) -> Path:
        """Arrays of other cache keys than the configured ones, kept until the user deletes them."""
        return self.results / "superseded"

    def weights(self, backbone: str) -> Path:
        """Return the path of a backbone's weights, safetensors."""
        return self.results / "weights" / f"{backbone}.safetensors"

    def weights_log(self, backbone: str) -> Path:
        """Return what getting the weights of a backbone logged."""
        return self.results / "logs" / "weights" / f"{backbone}.log"

    def weights_record(self, backbone: str) -> Path:
        """Return the path of the record of a backbone's weights: source and digest."""
        return self.results / "weights" / f"{backbone}.json"

    def done(self, part: str, shard: int | str) -> Path:
        """Return the path of a shard's done record; `part` is `probe` or a backbone. A text shard is a Snakemake
        wildcard."""
        return self.results / "done" / part / (f"{shard:05d}.json" if isinstance(shard, int) else f"{shard}.json")

    def job_done(self, part: str, first: int | str, shards: int) -> Path:
        """Return the output of a job that Snakemake watches: the done record of one shard, or a list of several."""
        if shards == 1:
            return self.done(part, first)
        name = f"{first:05d}.json" if isinstance(first, int) else f"{first}.json"
        return self.results / "done" / part / f"{shards}_shards" / name

    def ledger(self, part: str, shard: int, key: str) -> Path:
        """Return the path of a copy of the done record that Snakemake does not watch, one for every cache key ever
        used."""
        return self.results / "ledger" / part / key[:16] / f"{shard:05d}.json"

    def ledgers(self, shard: int) -> list[tuple[str, Path]]:
        """Return all ledgers of a shard, (part, path): also of backbones and keys that are not configured any more."""
        paths = sorted((self.results / "ledger").glob(f"*/*/{shard:05d}.json"))
        return [(path.parent.parent.name, path) for path in paths]

    @property
    def changed_videos(self) -> Path:
        """What the table says anew of the audio of videos that were known, until they are computed again."""
        return self.results / "work" / "changed_videos.json"

    def work(self, part: str, shard: int) -> Path:
        """Return the folder of a shard's partial results, which Snakemake does not watch."""
        return self.results / "work" / part / f"{shard:05d}"

    def shard_claim(self, part: str, shard: int) -> Path:
        """Return the path of the claim of the job that works on a shard."""
        return self.work(part, shard).with_suffix(".claim")

    @property
    def claim(self) -> Path:
        """Claim of the Snakemake process that works on these results."""
        return self.results / "work" / "snakemake.claim"

    def progress(self, part: str, shard: int) -> Path:
        """Return the path of the progress of a shard's jobs, JSON lines."""
        return self.results / "logs" / "progress" / part / f"{shard:05d}.jsonl"

    def hung(self, part: str, shard: int) -> Path:
        """Return the path of the stack traces of a shard's jobs that hung, text."""
        return self.results / "logs" / "hung" / part / f"{shard:05d}.txt"

    @property
    def started_in(self) -> Path:
        """Where Snakemake was started for these results the last time."""
        return self.results / "work" / "started_in.json"

    @property
    def digests(self) -> Path:
        """Cache of the digests of the user's large files."""
        return self.results / "work" / "digests.json"

    def digest_of(self, name: str) -> Path:
        """Return the path of the digest of user files: an input of the rule that reads them, in place of the files."""
        return self.results / "work" / f"{name}.sha256"

    @property
    def shard_indexes(self) -> Path:
        """Folder of the lists of members of tar shards, so that a shard's headers are walked through once."""
        return self.results / "work" / "tar"

    @property
    def features_record(self) -> Path:
        """Keys, counts and digest of the finished cache, on which later stages depend."""
        return self.results / "features.json"

    @property
    def failures(self) -> Path:
        """Table of failures, one line per video and backbone that could not read it."""
        return self.results / "failures.csv"

    @property
    def duplicates(self) -> Path:
        """Near-duplicates: settings, counts, examples."""
        return self.results / "duplicates" / "duplicates.json"

    @property
    def duplicates_table(self) -> Path:
        """Table of near-duplicates, one line a video of a group."""
        return self.results / "duplicates" / "duplicates.csv"

    def training(self, experiment: str, seed: int) -> Path:
        """Return the path of the state of an unfinished training, which Snakemake does not watch."""
        return self.results / "work" / "heads" / experiment / str(seed) / "state.safetensors"

    def heads(self, experiment: str) -> Path:
        """Return the folder of an experiment's checkpoints, metrics and embeddings."""
        return self.results / "heads" / experiment

    def eval(self, experiment: str) -> Path:
        """Return the folder of an experiment's evaluation, one JSON file per task."""
        return self.results / "eval" / experiment

    @property
    def comparison(self) -> Path:
        """Differences between experiments, with intervals."""
        return self.results / "eval" / "comparison.json"

    def study(self, part: str) -> Path:
        """Return the path of the results of a study question."""
        return self.results / "study" / f"{part}.json"

    def study_work(self, part: str) -> Path:
        """Return the folder of what a study question trained or extracted."""
        return self.results / "study" / part

    def study_variant(self, name: str) -> Path:
        """Return the separate results folder of a variant of segments (study/length/variant.py)."""
        return self.study_work("length") / name

    @property
    def study_page(self) -> Path:
        """The page of the study's answers."""
        return self.report / "study.html"

    @property
    def report(self) -> Path:
        """Folder of the report, HTML that opens from disk."""
        return self.results / "report"

    @property
    def atlas(self) -> Path:
        """Map of all videos: one row a video, with coordinates, labels, ranks, neighbours and media."""
        return self.report / "atlas.parquet"

    @property
    def atlas_clips(self) -> Path:
        """Folder of the atlas's clips, in its folder `media`."""
        return self.report / "atlas"

    @property
    def atlas_work(self) -> Path:
        """Folder of the vectors that neighbours are found in, deleted at the end."""
        return self.results / "work" / "atlas"
