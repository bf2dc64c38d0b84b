"""The configuration: wrong keys are named, the schema file is current, the shipped configurations are valid."""

import ast
import json
import sys
from importlib.metadata import packages_distributions

import pytest
import yaml
from packaging.utils import canonicalize_name

from config.cli import UserError, clock, results_folder
from config.files import write_json
from config.model import SCHEMA, Config, load, read, schema_text
from config.section import Section
from pipeline.backbones.check import check
from tests.support.commands import ROOT

GOOD = {"results": "r", "videos": "v.csv"}


def experiment(keys):
    return {"heads": {"experiments": {"x": keys}}}


def test_schema_file_is_current():
    assert SCHEMA.read_text() == schema_text(), "run `python -m config.model`"


@pytest.mark.parametrize("name", ["demo", "paper", "study_demo"])
def test_shipped_configurations(name):
    raw = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())
    load(raw if "render" in raw else raw | {"videos": "videos.csv"})


def test_one_gallery_as_older_configurations_have_it(tmp_path):
    """Also in the resolved config.json of an older results folder, and as that of today."""
    plain = load(GOOD | {"results": str(tmp_path)}).model_dump(mode="json")
    assert plain["eval"]["galleries"] == [1000, 2000]
    plain["eval"] = {"gallery": 300, "bootstrap": 500, "seed": 4}
    (tmp_path / "config.json").write_text(json.dumps(plain))
    config = read(tmp_path / "config.json")
    assert (config.eval.galleries, config.eval.bootstrap, config.eval.seed) == ([300], 500, 4)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    assert read(tmp_path / "config.json") == config


def test_the_study_at_full_size_is_the_defaults():
    paper, study = (yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()) for name in ("paper", "study"))
    plain = load(paper | {"videos": "videos.csv"})
    whole = load(paper | study | {"videos": "videos.csv", "backbones": paper["backbones"] | study["backbones"]})
    asked = {"questions": whole.study.questions}
    assert set(whole.study.questions) == {*plain.study.questions, "ablation"}
    assert whole.study == plain.study.model_copy(update=asked) and set(whole.backbones) - set(plain.backbones) == set(
        study["backbones"]
    )


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"segmnts": {}}, ["segmnts", "did you mean 'segments'"]),
        ({"segments": {"secnds": 3}}, ["segments.secnds", "did you mean 'seconds'"]),
        ({"count": 3}, ["count: unknown key in this place; did you mean 'segments.count'?"]),
        (
            {"segments": None, "count": 3},
            ["segments: should be a section, its keys indented below it"],
        ),
        ({"segments": {"count": "six"}}, ["segments.count", "integer", "it is 'six'"]),
        ({"segments": {"seconds": 6.0}}, ["segments.window (5.0)"]),
        ({"splits": {"train": 0.9}}, ["\n  splits.train + splits.validation", "must be 1"]),
        ({"heads": {"audio": "clap"}}, ["clap", "musicnn"]),
        ({"heads": {"experiments": {"a b": {}}}}, ["heads.experiments", "a b"]),
        ({"heads": {"experiments": {"x": {"temprature": 1}}}}, ["heads.experiments.x.temprature", "temperature"]),
        ({"eval": {"gallery": 1}}, ["eval.galleries.0", "greater than or equal to 2"]),
        ({"eval": {"gallery": 1000, "galleries": [1000]}}, ["eval", "`gallery` is its older form"]),
        ({"eval": {"galleries": [1000, 2000, 1000]}}, ["eval.galleries", "a size twice"]),
        ({"eval": {"galeries": [5]}}, ["eval.galeries", "did you mean 'galleries'"]),
        (experiment({"hidden": [0]}), ["heads.experiments.x.hidden.0", "greater than or equal to 1"]),
        (experiment({"loss": "triplet"}), ["heads.experiments.x.loss", "siglip"]),
        (experiment({"audio": {"identity": True, "hidden": [3]}}), ["heads.experiments.x.audio", "identity", "hidden"]),
        (experiment({"audio": {"identity": True}, "video": {"identity": True}}), ["audio.identity", "video.identity"]),
        (experiment({"audio": {"normalise": False}}), ["heads.experiments.x.audio", "normalise", "identity"]),
        (
            experiment({"audio": {"identity": True, "normalise": False}, "loss": "paper"}),
            ["heads.experiments.x", "loss: paper", "normalise"],
        ),
        (
            {"study": {"aggregation": {"recipe": {"shuffle": "once", "repeat_step": True}}}},
            ["study.aggregation.recipe", "shuffle: once, repeat_step: true"],
        ),
        (experiment({"learned_temperature": True, "temperature": 0.001}), ["temperature (0.001)", "0.01"]),
        (experiment({"warmup": 5, "max_epochs": 5}), ["warmup (5)", "max_epochs (5)"]),
        (experiment({"schedule": "cosine", "decay": 0.9}), ["decay", "schedule: exponential"]),
        (experiment({"momentum": 0.5}), ["momentum", "optimiser: sgd"]),
        (experiment({"bias": -5.0}), ["bias", "loss: siglip"]),
        (experiment({"autoencoder": {"epochs": 3}}), ["autoencoder", "initialisation: autoencoder"]),
        (experiment({"video": {"drop": 0.1}}), ["heads.experiments.x.video.drop", "dropout"]),
        ({"render": {}}, ["exactly one of `videos`"]),
        ({"results": "a{b}"}, ["results"]),
    ],
)
def test_errors_name_the_key(extra, words):
    with pytest.raises(UserError) as caught:
        load(GOOD | extra)
    for word in words:
        assert word in str(caught.value)


def test_resolved_configuration_round_trips():
    config = load(GOOD)
    assert load(config.model_dump(mode="json")) == config


def test_every_key_is_explained():
    models = [Config, *sections(Section)]
    assert not [
        f"{m.__name__}.{name}" for m in models for name, field in m.model_fields.items() if not field.description
    ]


def sections(model):
    return [section for child in model.__subclasses__() for section in (child, *sections(child))]


def _pins(text: str) -> set[str]:
    lines = (line.split("#")[0].strip().removeprefix("- ") for line in text.splitlines())
    return {line for line in lines if "==" in line}


def test_conda_has_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    wanted = _pins((ROOT / "requirements.txt").read_text()) | _pins((ROOT / "requirements-test.txt").read_text())
    assert set(pip) == wanted
    assert _pins((ROOT / "requirements-transformers.txt").read_text()) < wanted
    # The atlas is read by the same pyarrow that wrote it; of embedding-atlas there is a reason in the file.
    explore = {pin for pin in _pins((ROOT / "requirements-explore.txt").read_text()) if "embedding-atlas" not in pin}
    assert explore < wanted and len(explore) == 2
    loose = [
        line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#" and "==" not in line
    ]
    assert not loose


def test_what_is_imported_is_required():
    """By the packages that run without the tests' requirements: a demo's environment has no others."""
    imported = set()
    for path in (
        p for room in ("config", "data", "pipeline", "heads", "eval", "study") for p in (ROOT / room).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    third_party = {name for name in imported if name not in sys.stdlib_module_names and not (ROOT / name).is_dir()}
    required = {canonicalize_name(pin.partition("==")[0]) for pin in _pins((ROOT / "requirements.txt").read_text())}
    dists = packages_distributions()
    assert not {m for m in third_party if not {canonicalize_name(d) for d in dists.get(m, [])} & required}


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")])
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_a_results_folder_and_its_configuration_stand_for_each_other(tmp_path):
    write_json(tmp_path / "config.json", load(GOOD | {"results": str(tmp_path)}).model_dump(mode="json"))
    assert read(tmp_path) == read(tmp_path / "config.json")
    assert results_folder(str(tmp_path)) == results_folder(str(tmp_path / "config.json")) == tmp_path


def test_the_small_configuration_of_the_documentation_is_one():
    page = (ROOT / "docs" / "videos.md").read_text(encoding="utf-8").partition("### A small configuration")[2]
    config = load(yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0]))
    assert check(config) and {"hub", "kinetics400"}.isdisjoint(b.weights for b in config.backbones.values())
