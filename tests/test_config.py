"""The configuration: wrong keys are named, the schema file is current, the shipped configurations are valid."""

from pathlib import Path

import pytest
import yaml

from config.cli import UserError, clock
from config.model import SCHEMA, load, schema_text

ROOT = Path(__file__).parents[1]
GOOD = {"results": "r", "videos": "v.csv"}


def test_schema_file_is_current():
    assert SCHEMA.read_text() == schema_text(), "run `python -m config.model`"


@pytest.mark.parametrize("name", ["demo", "paper"])
def test_shipped_configurations(name):
    raw = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())
    load(raw if "render" in raw else raw | {"videos": "videos.csv"})


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"segmnts": {}}, ["segmnts", "did you mean 'segments'"]),
        ({"segments": {"secnds": 3}}, ["segments.secnds", "did you mean 'seconds'"]),
        ({"segments": {"count": "six"}}, ["segments.count", "integer"]),
        ({"segments": {"seconds": 6.0}}, ["segments.window (5.0)"]),
        ({"splits": {"train": 0.9}}, ["must be 1"]),
        ({"heads": {"audio": "clap"}}, ["clap", "musicnn"]),
        ({"heads": {"experiments": {"a b": {}}}}, ["heads.experiments", "a b"]),
        ({"heads": {"experiments": {"x": {"temprature": 1}}}}, ["heads.experiments.x.temprature", "temperature"]),
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


def _pins(text: str) -> set[str]:
    lines = (line.split("#")[0].strip().removeprefix("- ") for line in text.splitlines())
    return {line for line in lines if "==" in line}


def test_conda_has_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    wanted = _pins((ROOT / "requirements.txt").read_text()) | _pins((ROOT / "requirements-test.txt").read_text())
    assert set(pip) == wanted
    loose = [
        line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#" and "==" not in line
    ]
    assert not loose


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")])
def test_clock(seconds, text):
    assert clock(seconds) == text
