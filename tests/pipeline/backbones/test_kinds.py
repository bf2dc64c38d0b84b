"""Tests for the registry: a name is an array, a kind is code."""

import re
from typing import Any

import pytest
import yaml

from config.cli import UserError
from config.model import Config, load
from config.pipeline import Segments
from pipeline.backbones.check import check
from pipeline.backbones.chosen import chosen
from pipeline.plan import make_plan
from tests.support.commands import ROOT


def configured(**backbones: dict[str, Any]) -> Config:
    """Return a configuration with these backbones; both sides of the heads are the first one."""
    heads = dict.fromkeys(("audio", "video"), next(iter(backbones)))
    return load({"results": "r", "videos": "v.csv", "backbones": backbones, "heads": heads})


def keys(config: Config) -> dict[str, str]:
    """Return the cache keys of a configuration whose weights all have one digest."""
    weights = dict.fromkeys(config.backbones, {"sha256": "0" * 64, "random": False})
    return {name: planned.key for name, planned in make_plan(config, 1, weights).backbones.items()}


def test_the_kind_is_the_name_by_default_and_then_nothing_changes() -> None:
    plain = configured(musicnn={"weights": "wheel"}, r2plus1d={"weights": "random"})
    told = configured(musicnn={"weights": "wheel", "kind": "musicnn"}, r2plus1d={"weights": "random"})
    assert keys(plain) == keys(told) and check(plain) == check(told)
    assert keys(plain)["r2plus1d"].startswith("61536dec819c8da0"), "the key of before there were kinds"
    assert "kind" not in check(plain)["musicnn"]


def test_several_backbones_of_one_kind_stand_side_by_side() -> None:
    config = configured(
        musicnn={"weights": "wheel"},
        slow={"kind": "r2plus1d", "weights": "random", "options": {"fps": 3}},
        r2plus1d={"weights": "random", "options": {"fps": 3}},
        seeded={"kind": "r2plus1d", "weights": "random", "seed": 1, "options": {"fps": 3}},
    )
    assert check(config)["slow"] == {"kind": "r2plus1d", "fps": 3.0, "precision": "float32"}
    assert len(set(keys(config).values())) == 4
    assert {chosen(config, name).modality for name in ("slow", "r2plus1d", "seeded")} == {"video"}


@pytest.mark.parametrize(
    ("backbones", "message"),
    [
        ({"clip": {"weights": "hub"}}, r"backbones\.clip: no such kind.*needs `kind`.*docs/extending\.md"),
        ({"mine": {"kind": "musicn", "weights": "wheel"}}, r"backbones\.mine\.kind: 'musicn': no such kind.*musicnn\?"),
        (
            {"mine": {"kind": "r2plus1d", "weights": "random", "options": {"frames": 3}}},
            r"backbones\.mine\.options\.frames: unknown option; r2plus1d has",
        ),
        ({"mine": {"kind": "r2plus1d", "weights": "kinetics"}}, r"backbones\.mine\.weights: 'kinetics'"),
        (
            {"mine": {"kind": "r2plus1d", "weights": "random", "options": {"fps": "3"}}},
            r"backbones\.mine\.options\.fps: should be a number, without quotes; got '3'",
        ),
        (
            {
                "mine": {
                    "kind": "transformers",
                    "weights": "hub",
                    "options": {"modality": "video", "model": "a/b", "revision": 4321567},
                }
            },
            r"backbones\.mine\.options\.revision: should be text, in quotes if it looks like a number; got 4321567",
        ),
    ],
)
def test_a_mistake_is_named_by_its_key(backbones: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(configured(musicnn={"weights": "wheel"}, r2plus1d={"weights": "random"}, **backbones))


def test_more_frames_than_a_decoding_process_can_hold_are_refused_before_any_video_is_opened() -> None:
    many = {"r2plus1d": {"weights": "random", "options": {"fps": 240}}}
    keys(configured(**many))
    longer = configured(**many).model_copy(update={"segments": Segments(seconds=60, window=60)})
    with pytest.raises(
        UserError, match=r"^backbones\.r2plus1d\.options\.fps: 240 .* 86,400 frames .*memory_mb is 4096"
    ):
        keys(longer)


def test_every_network_of_the_documentation_is_a_configuration() -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8").partition("### ")[0]
    lines = re.findall(r"^\| .* \| `(\w+: \{.*\})` \| .* \|$", page, re.M)
    assert len(lines) >= 12
    for line in lines:
        backbones = yaml.safe_load(line)
        (name,) = backbones
        assert check(configured(**backbones))[name], line
