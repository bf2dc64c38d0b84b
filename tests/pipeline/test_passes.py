"""Which backbones are computed together: decided once, the same before and after the plan is made. Reads nothing."""

from __future__ import annotations

from typing import Any

import pytest

from config.cli import UserError
from config.model import Config, load
from pipeline.passes import passes, refuse_mixtures
from pipeline.records import Plan, PlannedBackbone

FOUR = ("musicnn", "r2plus1d", "sound_descriptors", "picture_descriptors")


def config(**backbones: dict[str, Any]) -> Config:
    """Return a configuration with these backbones; weights are filled in."""
    formulas = ("sound_descriptors", "picture_descriptors")
    known = {
        name: {"weights": "none" if settings.get("kind", name) in formulas else "random", **settings}
        for name, settings in backbones.items()
    }
    return load({"results": "/results", "videos": "videos.csv", "backbones": known})


def planned(config: Config, before: Plan | None = None, *, old: bool = False) -> Plan:
    """Return what the plan job would write; `old`: the version before passes."""
    backbones = {
        name: PlannedBackbone(key="k", dim=1, weights={}, random_weights=True, preprocessing={})
        for name in config.backbones
    }
    return Plan(
        format=1, videos=1, shard_videos=1, shards=1, segments=config.segments, segment_key="s",
        backbones=backbones, passes=[] if old else passes(config, before),
    )  # fmt: skip


def stable(config: Config, before: Plan | None = None) -> list[list[str]]:
    """Return the passes; check that they are the same once they are planned."""
    found = passes(config, before)
    assert passes(config, planned(config, before)) == found
    assert sorted(name for names in found for name in names) == sorted(config.backbones)
    return found


def test_one_pass_a_modality_and_engine() -> None:
    every = {name: {} for name in FOUR}
    assert stable(config(**every)) == [["musicnn"], ["r2plus1d", "picture_descriptors"], ["sound_descriptors"]]
    on_essentia = every | {"musicnn": {"options": {"engine": "essentia"}}}
    assert stable(config(**on_essentia))[0] == ["musicnn", "sound_descriptors"]


def test_devices_apart_but_numpy_goes_along() -> None:
    second = {"kind": "r2plus1d", "device": "cpu"}
    first, formulas = {"device": "cuda"}, {"picture_descriptors": {}}
    assert stable(config(musicnn={}, r2plus1d=first, again=second, **formulas)) == [
        ["musicnn"],
        ["r2plus1d", "picture_descriptors"],
        ["again"],
    ]
    told = {"picture_descriptors": {"device": "cpu"}}
    assert stable(config(musicnn={}, r2plus1d=first, again=second, **told))[1:] == [
        ["r2plus1d"],
        ["again", "picture_descriptors"],
    ]


def test_an_older_plan_keeps_each_alone_and_what_is_new_goes_together() -> None:
    before = planned(config(musicnn={}, r2plus1d={}, picture_descriptors={}), old=True)
    assert stable(config(musicnn={}, r2plus1d={}, picture_descriptors={}), before) == [
        ["musicnn"],
        ["r2plus1d"],
        ["picture_descriptors"],
    ]
    new = {"a": {"kind": "r2plus1d"}, "b": {"kind": "r2plus1d"}}
    found = stable(config(musicnn={}, r2plus1d={}, picture_descriptors={}, **new), before)
    assert found[-1] == ["a", "b"] and len(found) == 4


def test_what_comes_later_forms_a_pass_of_its_own() -> None:
    before = planned(config(musicnn={}, r2plus1d={}, picture_descriptors={}))
    later = config(again={"kind": "r2plus1d"}, musicnn={}, picture_descriptors={}, r2plus1d={})
    assert stable(later, before) == [["musicnn"], ["r2plus1d", "picture_descriptors"], ["again"]]


def test_what_leaves_leaves_its_pass_and_the_others_stay() -> None:
    three = {"r2plus1d": {}, "picture_descriptors": {}, "again": {"kind": "r2plus1d"}}
    before = planned(config(musicnn={}, **three))
    left = config(musicnn={}, **{name: three[name] for name in ("again", "r2plus1d")})
    assert stable(left, before) == [["musicnn"], ["r2plus1d", "again"]]
    back = config(musicnn={}, **three)
    assert stable(back, planned(left, before)) == [["musicnn"], ["r2plus1d", "again"], ["picture_descriptors"]]


def test_a_backbone_whose_engine_changes_leaves_its_pass() -> None:
    essentia = {"options": {"engine": "essentia"}}
    before = planned(config(musicnn=essentia, sound_descriptors={}, r2plus1d={}))
    assert before.passes[0] == ["musicnn", "sound_descriptors"]
    assert stable(config(musicnn={}, sound_descriptors={}, r2plus1d={}), before)[:2] == [
        ["musicnn"],
        ["sound_descriptors"],
    ]


def test_one_process_takes_neither_two_modalities_nor_two_engines() -> None:
    every = config(**{name: {} for name in FOUR})
    refuse_mixtures(every, ["r2plus1d", "picture_descriptors"])
    with pytest.raises(UserError, match="musicnn, r2plus1d: one reads audio, the other video"):
        refuse_mixtures(every, ["r2plus1d", "musicnn"])
    with pytest.raises(UserError, match="musicnn, sound_descriptors: essentia and PyTorch cannot share a process"):
        refuse_mixtures(every, ["sound_descriptors", "musicnn"])
