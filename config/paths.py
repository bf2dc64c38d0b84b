"""Every path under the results folder, in one place. Reads and writes nothing.

The Snakemake rules and the Python modules both ask this class, so a path is spelled once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
        """One row a video, append-only. Snakemake does not know it, lest it delete it before a rerun."""
        return self.results / "manifest.parquet"

    @property
    def manifest_record(self) -> Path:
        """What Snakemake watches instead of the manifest: row count and digest."""
        return self.results / "manifest.json"

    def labels(self, task: str) -> Path:
        """Labels of a task (`genre`, `tagging`): which videos have which."""
        return self.results / "labels" / f"{task}.parquet"

    def labels_record(self, task: str) -> Path:
        """Counts of the labels, how they were matched and what was dropped."""
        return self.results / "labels" / f"{task}.json"

    @property
    def plan(self) -> Path:
        """Shard count and cache keys: all that Snakemake needs to know about 550,000 videos."""
        return self.results / "plan.json"

    @property
    def features(self) -> Path:
        """The cache: a Zarr v3 group."""
        return self.results / "features.zarr"

    @property
    def superseded(self) -> Path:
        """Arrays whose cache key is no longer the configured one, kept until the user deletes them."""
        return self.results / "superseded"

    def weights(self, backbone: str) -> Path:
        """The backbone's weights as safetensors."""
        return self.results / "weights" / f"{backbone}.safetensors"

    def weights_record(self, backbone: str) -> Path:
        """Source and digest of the weights."""
        return self.results / "weights" / f"{backbone}.json"

    def done(self, part: str, shard: int | str) -> Path:
        """Done record of a shard; `part` is `probe` or a backbone. A string shard is a Snakemake wildcard."""
        return self.results / "done" / part / (f"{shard:05d}.json" if isinstance(shard, int) else f"{shard}.json")

    def job_done(self, part: str, first: int | str, shards: int) -> Path:
        """What Snakemake watches of a job of so many shards: of one the shard's record, of several a list of them."""
        if shards == 1:
            return self.done(part, first)
        name = f"{first:05d}.json" if isinstance(first, int) else f"{first}.json"
        return self.results / "done" / part / f"{shards}_shards" / name

    def ledger(self, part: str, shard: int, key: str) -> Path:
        """The done record again, where Snakemake does not know it, for each cache key that was ever used."""
        return self.results / "ledger" / part / key[:16] / f"{shard:05d}.json"

    def work(self, part: str, shard: int) -> Path:
        """Folder for the partial progress of a shard, unknown to Snakemake."""
        return self.results / "work" / part / f"{shard:05d}"

    @property
    def claim(self) -> Path:
        """Which Snakemake works on these results."""
        return self.results / "work" / "snakemake.claim"

    def progress(self, part: str, shard: int) -> Path:
        """Progress of a shard's jobs as JSON lines, unknown to Snakemake."""
        return self.results / "logs" / "progress" / part / f"{shard:05d}.jsonl"

    @property
    def features_record(self) -> Path:
        """Keys, counts and digest of the whole finished cache: what the stages after it depend on."""
        return self.results / "features.json"

    def statistics(self, backbone: str) -> Path:
        """Mean, variance and covariance of a backbone's features, as safetensors."""
        return self.results / "statistics" / f"{backbone}.safetensors"

    @property
    def failures(self) -> Path:
        """One line for every video that a backbone could not read."""
        return self.results / "failures.csv"

    def training(self, experiment: str, seed: int) -> Path:
        """State of an unfinished training, unknown to Snakemake."""
        return self.results / "work" / "heads" / experiment / str(seed) / "state.safetensors"

    def heads(self, experiment: str) -> Path:
        """Folder of one experiment's checkpoint, metrics and embeddings."""
        return self.results / "heads" / experiment

    def eval(self, experiment: str) -> Path:
        """Folder of one experiment's evaluation, a JSON a task."""
        return self.results / "eval" / experiment

    @property
    def comparison(self) -> Path:
        """Differences between experiments."""
        return self.results / "eval" / "comparison.json"

    def study(self, part: str) -> Path:
        """What a part of the study found."""
        return self.results / "study" / f"{part}.json"

    def study_work(self, part: str) -> Path:
        """Folder of what a part of the study trained, or extracted besides."""
        return self.results / "study" / part

    @property
    def study_page(self) -> Path:
        """The page that tells the study's answers."""
        return self.report / "study.html"

    @property
    def report(self) -> Path:
        """The report, a folder that opens from disk."""
        return self.results / "report"
