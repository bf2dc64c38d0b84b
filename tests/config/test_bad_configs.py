"""Configurations that a job would stumble over: each is an error that names its key, before anything runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.cli import UserError
from config.model import Config, load
from config.section import Section
from pipeline.backbones.check import check
from pipeline.backbones.mel import MIN_SAMPLES, RATE
from pipeline.backbones.registry import REGISTRY, Entry
from pipeline.records import PROBE
from pipeline.store import DURATION, START
from tests.support.commands import ROOT

GOOD = {"results": "r", "videos": "v.csv"}
INF, NAN = math.inf, math.nan


def nested(key: str, value: object) -> dict:
    """{"a.b": value} as the configuration {"a": {"b": value}}."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value  # type: ignore[return-value]


def backbones(**changes: object) -> dict:
    """Both backbones, with changes to the one that is named."""
    usual = {"musicnn": {"weights": "wheel"}, "r2plus1d": {"weights": "kinetics400"}}
    return {"backbones": {name: one | changes.get(name, {}) for name, one in usual.items()}}  # type: ignore[operator]


KEYS = [
    ("results", ""), ("results", " "), ("results", "a{b}"), ("results", "a\nb"), ("results", "a\0b"), ("results", 7),
    ("results", True), ("results", "$NOT_SET_ANYWHERE/x"), ("results", "${NOT_SET_ANYWHERE}"),
    ("results", "~nobody0/x"), ("videos", ""), ("videos", "$NOT_SET_ANYWHERE"), ("videos", 2024.5),
    ("videos", ["a.csv"]), ("shard_videos", 0), ("shard_videos", -1), ("shard_videos", 2.5), ("shard_videos", INF),
    ("shard_videos", True), ("shards_a_job", 0), ("shards_a_job", "many"), ("segments.count", 0),
    ("segments.count", -6), ("segments.count", 10**9), ("segments.count", True), ("segments.count", NAN),
    ("segments.seconds", 0), ("segments.seconds", NAN), ("segments.seconds", INF), ("segments.seconds", "long"),
    ("segments.seconds", 2.5), ("segments.seconds", 2.97), ("segments.seconds", 61), ("segments.window", NAN),
    ("segments.window", INF), ("segments.window", -1), ("segments.seed", 1.5), ("segments.seed", 2**70),
    ("segments.start", 3), ("splits.train", 0), ("splits.train", NAN), ("splits.test", 1.5),
    ("splits", {"train": 0.5}), ("splits", [0.8, 0.2]), ("decoding.video", "vlc"), ("decoding.deadline_seconds", 0),
    ("decoding.deadline_seconds", INF), ("decoding.deadline_seconds", 1e300), ("decoding.memory_mb", 16),
    ("decoding.memory_mb", 2**60), ("decoding.recycle", 0), ("decoding.failure_ratio", 2),
    ("decoding.failure_ratio", NAN), ("decoding.staging", 7), ("heads.audio", "clap"), ("heads.video", "clip"),
    ("heads.seeds", []), ("heads.seeds", [0, 0]), ("heads.seeds", [-1]), ("heads.seeds", [2**64]),
    ("heads.seeds", [True]), ("heads.seeds", 3), ("heads.memory_gb", 0), ("heads.memory_gb", INF),
    ("heads.matmul", "cuda"), ("heads.experiments", {"a b": {}}), ("heads.experiments", {"a/b": {}}),
    ("heads.experiments", {"": {}}), ("heads.experiments", {"x" * 300: {}}), ("heads.experiments", {"features": {}}),
    ("heads.experiments", ["baseline"]), ("heads.experiments.x.hidden", [0]), ("heads.experiments.x.hidden", [10**9]),
    ("heads.experiments.x.hidden", 512), ("heads.experiments.x.embedding", 1),
    ("heads.experiments.x.embedding", 10**9), ("heads.experiments.x.dropout", 1), ("heads.experiments.x.dropout", NAN),
    ("heads.experiments.x.temperature", 0), ("heads.experiments.x.temperature", INF),
    ("heads.experiments.x.learning_rate", -1), ("heads.experiments.x.learning_rate", NAN),
    ("heads.experiments.x.weight_decay", -1), ("heads.experiments.x.batch", 1), ("heads.experiments.x.batch", True),
    ("heads.experiments.x.max_epochs", 0), ("heads.experiments.x.patience", 0),
    ("heads.experiments.x.loss", "triplet"), ("heads.experiments.x.bias", NAN),
    ("heads.experiments.x.audio.hidden", [-1]), ("heads.experiments.x.audio", {"identity": True}),
    ("heads.experiments.x.autoencoder.epochs", 0), ("labels.genre.source", ""),
    ("labels.genre.source", "$NOT_SET_ANYWHERE"), ("labels.genre.two_genres", "both"),
    ("labels.genre.tracks", "~nobody0"), ("labels.tagging.top", 0), ("labels.tagging.minimum_value", 101),
    ("labels.tagging.minimum_value", NAN), ("labels.msd_summary", ""), ("labels.mood", {}), ("probes.hidden", []),
    ("probes.hidden", [0]), ("probes.hidden", [-5, 3]), ("probes.batch", 0), ("probes.dropout", 1),
    ("probes.learning_rate", INF), ("probes.max_epochs", 0), ("probes.patience", 0), ("eval.galleries", [1]),
    ("eval.bootstrap", 10), ("eval.bootstrap", 10**12), ("eval.seed", -1), ("eval.seed", 2**64),
    ("dask.slurm.jobs", 0), ("dask.slurm.walltime", "1 hour"), ("dask.slurm.partition", "x\nrm -rf /"),
    ("dask.slurm.account", "a b"), ("dask", {"scheduler": "tcp://a:1", "slurm": {}}), ("study.seeds", []),
    ("study.seeds", [-1]), ("study.seeds", [1, 1]), ("study.length.counts", [0]), ("study.length.totals", [0]),
    ("study.length", {"counts": [99], "totals": [1000]}), ("study.length.folds", 1),
    ("study.length.variants", [{"seconds": 3, "count": 2}]),
    ("study.length.variants", [{"seconds": 2, "count": 2}] * 2), ("study.correlation.few", ["nothing"]),
    ("study.correlation.null_seeds", 1), ("study.correlation.simulated.sizes", []),
    ("study.correlation.simulated.grid", [2]), ("study.correlation.simulated.map_grid", []),
    ("study.correlation.simulated.noise", NAN), ("study.correlation.rendered.kinds", ["taste"]),
    ("study.aggregation.replaced", [1]), ("study.aggregation.replaced", [0, -1]),
    ("study.aggregation.recipe.batch", 0), ("study.fusion.shrinkages", []), ("study.fusion.shrinkages", [0]),
    ("study.fusion.shrinkages", [1.5]), ("study.fusion.lost", 1), ("study.relations.false_discoveries", 0),
    ("study.relations.neighbours", 0),
]  # fmt: skip

BACKBONES = [
    ("musicnn.weights", "weel"), ("musicnn.weights", 7), ("musicnn.weights", "kinetics400"), ("musicnn.weights", ""),
    ("musicnn.weights", "$NOT_SET_ANYWHERE/x.pb"), ("musicnn.batch", 0), ("musicnn.batch", -1),
    ("musicnn.batch", 10**9), ("musicnn.threads", 0), ("musicnn.threads", 10**9), ("musicnn.threads", True),
    ("musicnn.device", "tpu"), ("musicnn.options.engine", "tensorflow"), ("musicnn.options.engine", 1),
    ("musicnn.options.fps", 10), ("r2plus1d.options.fps", 0), ("r2plus1d.options.fps", -10),
    ("r2plus1d.options.fps", NAN), ("r2plus1d.options.fps", INF), ("r2plus1d.options.fps", "ten"),
    ("r2plus1d.options.fps", True), ("r2plus1d.options.fps", 0.1), ("r2plus1d.options.fps", 1e6),
    ("r2plus1d.options.precision", "int8"), ("r2plus1d.options.precision", True), ("r2plus1d.seed", 2**70),
    ("r2plus1d.seed", "x"),
]  # fmt: skip

WHOLE = {
    "both": (GOOD | {"render": {}}, "videos"),
    "neither": ({"results": "r"}, "render"),
    "videos and results": ({"results": "same", "videos": "same"}, "results"),
    "shortest after longest": ({"results": "r", "render": {"seconds": [40, 20]}}, "render.seconds"),
    "no time": ({"results": "r", "render": {"seconds": [0, 20]}}, "render.seconds"),
    "endless": ({"results": "r", "render": {"seconds": [1, INF]}}, "render.seconds"),
    "one number": ({"results": "r", "render": {"seconds": [20]}}, "render.seconds"),
    "no videos": ({"results": "r", "render": {"videos": 0}}, "render.videos"),
    "correlation": ({"results": "r", "render": {"correlation": NAN}}, "render.correlation"),
    "unknown backbone": (
        GOOD | {"backbones": {"clap": {"weights": "x"}}, "heads": nested("audio", "clap")},
        "backbones",
    ),
    "no backbones": (GOOD | {"backbones": {}}, "backbones"),
    "a seed that MusicNN's random numbers do not take": (
        GOOD | backbones(musicnn={"weights": "random", "seed": -1}),
        "backbones.musicnn.seed",
    ),
    "essentia on a GPU": (
        GOOD | backbones(musicnn={"device": "cuda", "options": {"engine": "essentia"}}),
        "backbones.musicnn.device",
    ),
    "weights of a formula": (
        GOOD | {"backbones": backbones()["backbones"] | {"sound_descriptors": {"weights": "random"}}},
        "backbones.sound_descriptors.weights",
    ),
    "a file as weights of a formula": (
        GOOD | {"backbones": backbones()["backbones"] | {"sound_descriptors": {"weights": "./x.pth"}}},
        "backbones.sound_descriptors.weights",
    ),
    **{
        f"a backbone called {name}": (
            GOOD | {"backbones": backbones()["backbones"] | {name: {"kind": "musicnn", "weights": "wheel"}}},
            f"backbones: the name '{name}' is taken",
        )
        for name in ("musicnn_valid", START, DURATION, PROBE)
    },
    "sides mixed up": (
        GOOD | {"heads": {"audio": "r2plus1d", "video": "musicnn"}},
        "heads.audio: r2plus1d reads the video; give it under `video`, or, to extract one modality alone,",
    ),
    "two networks of one modality": (
        GOOD
        | {"backbones": backbones()["backbones"] | {"slow": {"kind": "r2plus1d", "weights": "random"}}}
        | {"heads": {"audio": "slow", "video": "r2plus1d"}},
        "heads.audio: slow reads the video; give it under `video`",
    ),
    "a pair the wrong way round": (
        GOOD | nested("study.sources.others", [["r2plus1d", "musicnn"]]),
        "study.sources.others.audio: r2plus1d reads the video",
    ),
    "a network in training mode of the other modality": (
        GOOD | nested("study.ablation.train_mode", {"video": "musicnn"}),
        "study.ablation.train_mode.video: musicnn reads the audio",
    ),
    "identity of another width": (
        GOOD | nested("heads.experiments.x", {"audio": {"identity": True}, "embedding": 512}),
        "heads.experiments.x.embedding",
    ),
    "not a mapping": ([], "configuration"),
}


def refused(raw: object) -> str:
    with pytest.raises(UserError) as caught:
        check(load(raw))  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(("key", "value"), KEYS)
def test_a_wrong_value_is_refused_by_its_key(key, value):
    message = refused(GOOD | nested(key, value))
    # A section may be what is wrong: its own message names the key.
    for name in key.split("."):
        assert name in message


@pytest.mark.parametrize(("key", "value"), BACKBONES)
def test_a_wrong_value_of_a_backbone_is_refused_by_its_key(key, value):
    name, *rest = key.split(".")
    message = refused(GOOD | backbones(**{name: nested(".".join(rest), value)}))
    for part in ("backbones", *key.split(".")):
        assert part in message


@pytest.mark.parametrize("kind", WHOLE)
def test_wrong_together(kind):
    raw, key = WHOLE[kind]
    assert key in refused(raw)


GOOD_ONES = {
    "numbers as text, which YAML makes of 1e-3": nested("heads.experiments.x.learning_rate", "1e-3"),
    "a whole number as a fraction": {"shard_videos": 60.0},
    "the shortest segment of MusicNN": nested("segments.seconds", MIN_SAMPLES / RATE),
    "few frames": backbones(r2plus1d={"options": {"fps": 0.2}}),
    "weights from a file": backbones(musicnn={"weights": "./w.pb"}),
    "identity": nested("heads.experiments.x", {"audio": {"identity": True}, "embedding": 1506}),
    "a negative seed of segments": nested("segments.seed", -1),
    "a truth as text": nested("decoding.partial", "true"),
    "no hidden layers": nested("heads.experiments.x.hidden", []),
}


@pytest.mark.parametrize("kind", GOOD_ONES)
def test_good_configurations(kind):
    check(load(GOOD | GOOD_ONES[kind]))


@pytest.mark.parametrize("name", ["demo", "paper", "study_demo"])
def test_the_shipped_configurations_pass_all_checks(name):
    raw = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))
    check(load(raw if "render" in raw else raw | {"videos": "videos.csv"}))


def test_the_registry_knows_what_the_backbones_take():
    assert REGISTRY["musicnn"].least_seconds == MIN_SAMPLES / RATE
    assert all(isinstance(entry, Entry) and entry.weights is not None for entry in REGISTRY.values())


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}),
    st.lists(st.integers(-2, 3), max_size=3), st.sampled_from([0, -1, 2**70, "nan", "inf", "1e400", "$", "~"]),
)  # fmt: skip


def leaves(model, where=""):
    """The dotted keys of all values of a configuration."""
    for name, value in model:
        if isinstance(value, Section):
            yield from leaves(value, f"{where}{name}.")
        else:
            yield where + name


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(key=st.sampled_from(sorted(leaves(load(GOOD)))), value=VALUES)
def test_any_value_is_taken_or_refused_by_its_key(key, value):
    raw = GOOD | nested(key, value)
    try:
        config = load(raw)
        check(config)
    except UserError as error:
        assert key.split(".")[-1] in str(error) or key.split(".")[0] in str(error)
    else:
        assert isinstance(config, Config)
        again = load(config.model_dump(mode="json"))
        assert again == config


def test_paths_are_expanded_alike(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DISK", "/a disk")
    raw = {
        "results": "~/r",
        "videos": "$DISK/v.csv",
        "decoding": {"staging": "$TMPDIR"},
        "labels": {
            "genre": {"source": "${DISK}/g.cls", "tracks": "~/t.txt"},
            "tagging": {"source": "$DISK/l.db", "tracks": "$DISK/$DISK"},
            "msd_summary": "~",
        },
    } | backbones(musicnn={"weights": "~/w.pb"}, r2plus1d={"weights": "$HOME/w.pth"})
    config = load(raw)
    home = str(tmp_path)
    assert (config.results, config.videos) == (f"{home}/r", "/a disk/v.csv")
    genre, tagging = config.labels.genre, config.labels.tagging
    assert genre and (genre.source, genre.tracks) == ("/a disk/g.cls", f"{home}/t.txt")
    assert tagging and (tagging.source, tagging.tracks) == ("/a disk/l.db", "/a disk//a disk")
    assert config.labels.msd_summary == home
    assert [b.weights for b in config.backbones.values()] == [f"{home}/w.pb", f"{home}/w.pth"]
    assert config.decoding.staging == "$TMPDIR"  # the computing node's
    # What was resolved is not expanded again, and a dollar can be written.
    monkeypatch.delenv("DISK")
    config = load(GOOD | {"results": "a$$DISK/~/$"})
    assert config.results == "a$DISK/~/$" and load(config.model_dump(mode="json")) == config
    assert Path(config.results).parts[0] == "a$DISK"
