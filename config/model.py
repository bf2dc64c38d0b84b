"""The configuration: every key, its default and its meaning. Reads YAML/JSON; writes nothing but `config/schema.json`.

`load` validates a mapping (as Snakemake merges it from its files), `read` a resolved `config.json`.
`python -m config.model` writes the JSON schema for editors; a test fails if it is out of date.
"""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from config.cli import UserError
from config.evaluation import Evaluation
from config.heads import ALONE, Experiment, Heads, Sides
from config.labels import FEATURES, Labels, Probes
from config.paths import Paths, short
from config.pipeline import SHARD, TAKEN, Backbone, Dask, Decoding, Duplicates, Render, Segments, Splits
from config.place import placed
from config.section import PathText, Section
from config.study import Study
from config.study.common import FEWEST_PERMUTATIONS
from config.study.relations import RELATED_BACKBONES


class Config(Section):
    """All settings, from the videos to the report and the study."""

    results: PathText = Field(min_length=1, pattern=r"^[^{}\n]+$")
    """Folder of all results, without braces in its name; nothing is written outside it. In all paths, `~` and `$NAME`
    are expanded when the configuration is read, and `$$` is a dollar sign."""
    videos: PathText | None = None
    """The videos: a CSV, TSV or Parquet table with the columns `video_id,path`, a folder of videos or of tar shards, or
    a pattern of shards such as `shards/{0000..0099}.tar` or `shards/*.tar`. Not with `render`."""
    render: Render | None = None
    """Render music videos in place of `videos`."""
    shard_videos: int = Field(1000, ge=1, le=100_000)
    """Videos per shard. A job opens the videos of one shard, once for all backbones of a pass."""
    shards_a_job: int = Field(1, ge=1, le=1000)
    """Consecutive shards per job, for schedulers that prefer few long jobs (1 to 8 hours). Does not change the features
    and may be changed at any time: finished shards stay finished."""
    segments: Segments = Segments()
    """Segments of each video that backbones read."""
    splits: Splits = Splits()
    """Shares of the train, validation and test splits."""
    decoding: Decoding = Decoding()
    """Decoding of media files: library, limits, damaged files."""
    backbones: dict[str, Backbone] = {
        "musicnn": Backbone(weights="wheel"),
        "r2plus1d": Backbone(weights="kinetics400"),
    }
    """Backbones that extract features of every video, by name."""
    heads: Heads = Heads()
    """Projection heads and their experiments."""
    labels: Labels = Labels()
    """Sources of genres and tags."""
    probes: Probes = Probes()
    """Probes: classifiers on features and embeddings."""
    eval: Evaluation = Evaluation()
    """Evaluation on the test split: galleries and confidence intervals."""
    duplicates: Duplicates = Duplicates()
    """Near-duplicates among the videos: `snakemake duplicates`."""
    dask: Dask = Dask()
    """Dask cluster for the covariances that the question `relations` of the study needs."""
    study: Study = Study()
    """The study of the paper's open questions: `snakemake study`."""

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if (self.videos is None) == (self.render is None):
            raise ValueError(
                "set exactly one of `videos` (a table or a folder of yours) and `render` (rendered videos)"
            )
        if self.videos is not None and Path(self.videos) == Path(self.results):
            raise ValueError("results: this is the folder of the videos; results would be read as videos")
        for modality, name in (("audio", self.heads.audio), ("video", self.heads.video)):
            if name not in self.backbones:
                raise ValueError(
                    f"heads.{modality}: the backbone '{name}' is not one of backbones: {sorted(self.backbones)}. Name "
                    f"one of them; {ALONE}"
                )
        for experiment, settings in self.heads.experiments.items():
            for modality, head in (("audio", settings.audio), ("video", settings.video)):
                for name in head.backbones or []:
                    if name not in self.backbones:
                        raise ValueError(
                            f"heads.experiments.{experiment}.{modality}: the backbone '{name}' is not one of "
                            f"backbones: {sorted(self.backbones)}"
                        )
        for kind in ("backbones", "heads.experiments"):
            names = self.backbones if kind == "backbones" else self.heads.experiments
            for name in names:
                if not name.replace("_", "").isalnum() or not name.isascii():
                    raise ValueError(f"{kind}: the name '{name}' may have only letters, digits and underscores")
                if len(name) > 100:
                    raise ValueError(f"{kind}: the name '{name}' is longer than 100 characters")
        valid = {f"{name}_valid" for name in self.backbones}
        if taken := [name for name in self.backbones if name in valid or name in TAKEN]:
            raise ValueError(
                f"backbones: the name '{taken[0]}' is taken: the store has arrays `start`, `duration` and, of every "
                "backbone, NAME_valid, and `probe` finds the segments. Give it another name, and `kind` for what "
                "computes it"
            )
        if FEATURES in self.heads.experiments:
            raise ValueError(
                f"heads.experiments: the name '{FEATURES}' is taken: eval/{FEATURES}/ has the probes without heads"
            )
        shown = self.eval.atlas.experiment
        if shown is not None and shown not in self.heads.experiments:
            raise ValueError(
                f"eval.atlas.experiment: '{shown}' is no experiment; there are {sorted(self.heads.experiments)}"
            )
        for name in self.study.correlation.few:
            if name not in self.heads.experiments:
                raise ValueError(
                    f"study.correlation.few: '{name}' is no experiment; there are {sorted(self.heads.experiments)}"
                )
        return self

    def check_study(self) -> None:
        """Raise UserError if the study's settings contradict the rest of the configuration.

        Called when the study is planned, because its defaults are no error in a configuration that does not run it.
        """
        asked, most = self.study.questions, max(self.study.aggregation.replaced)
        if "aggregation" in asked and most >= self.segments.count:
            raise UserError(
                f"study.aggregation.replaced: {most} must be below segments.count ({self.segments.count}), so that "
                "something of each video is left"
            )
        if "relations" in asked:
            self.check_relations()
        if "paper_code" in asked:
            self.study.paper_code.check_clone()
        if "sources" in asked:
            self.check_sources()
        if "ablation" in asked:
            self.check_ablation()

    def check_relations(self) -> None:
        """Raise UserError if `study.relations` lacks its backbones, or has too few permutations for significance."""
        draws = self.study.relations.permutations
        if draws < FEWEST_PERMUTATIONS:
            raise UserError(
                f"study.relations.permutations: {draws} draws by chance can show nothing at p ≤ 0.05; "
                f"{FEWEST_PERMUTATIONS} are needed"
            )
        if missing := [name for name in RELATED_BACKBONES if name not in self.backbones]:
            raise UserError(
                f"backbones: {' and '.join(missing)} missing, which study.relations measures; add "
                + " and ".join(f"`{name}: {{weights: none}}`" for name in missing)
                + " to `backbones`"
            )

    def check_sources(self) -> None:
        """Raise UserError if `study.sources` names backbones that are not there, or its recipe those of its own."""
        recipe = self.study.sources.recipe
        if recipe.backbones("audio") or recipe.backbones("video"):
            raise UserError(
                "study.sources.recipe: names backbones of its own; its heads read `heads.audio` and `heads.video`. "
                "Drop `backbones` of its `audio` and `video`, or set `heads.audio` and `heads.video`"
            )
        for pair in self.study.sources.others:
            if missing := [name for name in pair if name not in self.backbones]:
                raise UserError(
                    f"study.sources.others: {pair} names {missing[0]}, which is not in `backbones`; there are "
                    + ", ".join(self.backbones)
                )

    def check_ablation(self) -> None:
        """Raise UserError if `study.ablation` names experiments or backbones that there are not."""
        ablation = self.study.ablation
        for key, name in (("first", ablation.first), ("last", ablation.last)):
            if name not in self.heads.experiments:
                raise UserError(
                    f"study.ablation.{key}: '{name}' is no experiment; there are {sorted(self.heads.experiments)}. Add "
                    "it to `heads.experiments` (config/paper.yaml has both), or name another one"
                )
            settings = self.heads.experiments[name]
            if settings.backbones("audio") or settings.backbones("video"):
                raise UserError(
                    f"study.ablation.{key}: '{name}' reads backbones of its own; the ablation compares experiments on "
                    "`heads.audio` and `heads.video`"
                )
        named = {} if ablation.train_mode is None else ablation.train_mode.model_dump(exclude_none=True)
        for key, name in named.items():
            if name not in self.backbones:
                raise UserError(
                    f"study.ablation.train_mode.{key}: '{name}' is no backbone; there are {sorted(self.backbones)}"
                )

    def experiment(self, name: str) -> Experiment:
        """Return the named experiment. Raises UserError with the names that exist if there is none."""
        if name not in self.heads.experiments:
            raise UserError(f"heads.experiments.{name}: no such experiment; there are {sorted(self.heads.experiments)}")
        return self.heads.experiments[name]

    def sides(self, experiment: str | None = None) -> Sides:
        """Return the backbones of both modalities: an experiment's, or those of all that name none."""
        settings = self.experiment(experiment) if experiment is not None else Experiment()
        audio, video = settings.backbones("audio"), settings.backbones("video")
        return Sides(tuple(audio or [self.heads.audio]), tuple(video or [self.heads.video]))

    @property
    def spaces(self) -> dict[str, Sides]:
        """All pairs of sides by the name of their folder in eval/, the default ones first."""
        sides = dict.fromkeys([self.sides(), *map(self.sides, self.heads.experiments)])
        return {self.space(pair): pair for pair in sides}

    def space(self, sides: Sides) -> str:
        """Return the name of the folder in eval/ for what is measured on the features of these sides themselves."""
        return FEATURES if sides == self.sides() else short("-".join([FEATURES, *sides.audio, *sides.video]))

    @property
    def used_backbones(self) -> list[str]:
        """The backbones that any experiment reads, each once, the default ones first."""
        return list(dict.fromkeys(name for sides in self.spaces.values() for name in sides.backbones))

    @property
    def paths(self) -> Paths:
        """Paths under the results folder."""
        return Paths(Path(self.results))

    @property
    def table(self) -> Path:
        """Table or folder of videos from which the manifest is made."""
        return Path(self.videos) if self.videos is not None else self.paths.rendered / "videos.csv"

    @property
    def is_pattern(self) -> bool:
        """Whether `videos` is no path but a pattern of tar shards."""
        table = self.table
        return table.suffix.lower() == SHARD and any(sign in str(table) for sign in "*?[{") and not table.exists()


def load(raw: dict[str, Any], written: Callable[[], dict[tuple[str, ...], str]] = dict) -> Config:
    """Validate a mapping and return the configuration; UserError names every wrong key and the nearest right one.

    `written` returns the text of values that YAML parsed as numbers or the like, by key (config/sources.py). It is
    called only if such a value should be text, and the text then replaces the value.
    """
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        problems = error.errors()
    no_text = (problem for problem in problems if problem["type"] == "string_type" and problem["input"] is not None)
    wrong = [tuple(map(str, problem["loc"])) for problem in no_text]
    texts = {key: text for key, text in (written().items() if wrong else ()) if key in wrong}
    if texts:
        return load(_with_texts(raw, texts))
    raise UserError("the configuration is wrong:\n" + "\n".join(map(_explain, problems)))


def _with_texts(raw: dict[str, Any], texts: dict[tuple[str, ...], str]) -> dict[str, Any]:
    changed = copy.deepcopy(raw)
    for key, text in texts.items():
        section = changed
        for name in key[:-1]:
            section = section[name]
        section[key[-1]] = text
    return changed


def read(path: str | Path) -> Config:
    """Read the resolved `config.json` that the workflow writes into the results folder and return the configuration.

    `path` is the file or its folder. `results` becomes that folder, if a results folder was copied or moved. UserError
    if the file is missing, damaged, or outside of a results folder.
    """
    path = Path(path)
    if path.is_dir():
        path /= "config.json"
    try:
        return load(placed(path, json.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist. The workflow writes it when it starts: run `snakemake --cores 1 --configfile …`."
        ) from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise UserError(f"{path} is not JSON: {error}") from None


def _explain(error: Any) -> str:
    """Return the line of an error message about one wrong key."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "string_type" and error["input"] is not None:
        value = error["input"]
        return (
            f"  {key}: should be text, but was read as {type(value).__name__} {value!r}; "
            f"put it in quotes ('\"…\"' on a command line)"
        )
    if error["type"] == "model_type":
        given = "there is nothing" if error["input"] is None else f"it is {error['input']!r}"
        return f"  {key}: should be a section, its keys indented below it; {given}"
    if error["type"] != "extra_forbidden":
        problem = error["msg"].removeprefix("Value error, ")
        if error["type"] != "value_error" and isinstance(error["input"], str | int | float):
            problem += f"; it is {error['input']!r}"
        return f"  {problem}" if problem.startswith(key) else f"  {key}: {problem}"
    name = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(name, _all_keys(), n=1)
    if near == [name]:
        return f"  {key}: unknown key in this place; did you mean {_places(name)}?"
    return f"  {key}: unknown key" + (f"; did you mean '{near[0]}'?" if near else "")


def _places(name: str) -> str:
    """Return where a key of this name may stand: the first three dotted paths."""
    from config.reference import sections

    paths = [f"{path}.{name}".lstrip(".") for path, model in sections(Config) if name in model.model_fields]
    return " or ".join(f"'{path}'" for path in paths[:3])


def _all_keys() -> set[str]:
    models: list[type[BaseModel]] = [Experiment, *Section.__subclasses__()]
    return {key for model in models for key in model.model_fields}


SCHEMA = Path(__file__).with_name("schema.json")


def schema_text() -> str:
    """Return the text of `config/schema.json`, the configuration's JSON schema."""
    return json.dumps(Config.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
