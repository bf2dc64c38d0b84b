"""A known video whose audio track changes is noticed: said once, and noted until it is computed again."""

import logging

import pytest

from config.model import load
from config.paths import Paths
from data.changed import forget_changed, read_changed
from data.manifest import update

HEAD = "video_id,path,audio_path,audio_offset,sha256\n"
FIRST = HEAD + "a,a.mp4,a.mp3,1.5,\nb,b.mp4,,,\nc,c.mp4,c.mp3,,\nd,https://h.example/d.mp4,,," + "0" * 64 + "\n"


@pytest.fixture
def run(tmp_path, caplog):
    """Write the table and update the manifest; returns what was warned of."""
    caplog.set_level(logging.WARNING, "manifest")
    source = tmp_path / "videos.csv"

    def update_with(text, planned=True):
        source.write_text(text)
        paths = Paths(tmp_path / "results")
        if planned:
            paths.plan.parent.mkdir(exist_ok=True)
            paths.plan.write_text("{}")
        caplog.clear()
        update(load({"results": str(paths.results), "videos": str(source)}))
        return [record.getMessage() for record in caplog.records if "known videos" in record.getMessage()]

    update_with(FIRST, planned=False)
    return update_with, Paths(tmp_path / "results")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("1.5", "2", {"audio_offset": ["a"]}),
        ("c.mp3,,", "c.mp3,0,", {}),
        ("c.mp3,,", "c.mp3,-3,", {"audio_offset": ["c"]}),
        ("b.mp4,,", "b.mp4,b.mp3,2", {"audio_path": ["b"]}),
        ("a.mp3,1.5", ",", {"audio_path": ["a"]}),
        ("a.mp3,1.5", "x.mp3,2.5", {"audio_path": ["a"], "audio_offset": ["a"]}),
        ("0" * 64, "1" * 64, {"sha256": ["d"]}),
        ("0" * 64, "", {}),
        ("b.mp4", "moved/b.mp4", {}),
        ("b,b.mp4,,,\n", "", {}),
        ("b,b.mp4", "e,e.mp4,e.mp3,4,\nb,b.mp4", {}),
    ],
)
def test_what_counts_as_changed(run, old, new, found):
    update_with, paths = run
    assert old in FIRST
    said = update_with(FIRST.replace(old, new))
    assert read_changed(paths) == found and len(said) == len(found)
    for line, (column, (video_id,)) in zip(said, found.items(), strict=True):
        assert f"1 known videos ('{video_id}') have another `{column}`" in line and f"--changed {column}`" in line
    assert not update_with(FIRST.replace(old, new))
    assert read_changed(paths) == found


def test_changes_add_up_until_they_are_forgotten(run):
    update_with, paths = run
    update_with(FIRST.replace("1.5", "2"))
    update_with(FIRST.replace("1.5", "2").replace("c.mp3,", "c.mp3,7"))
    assert read_changed(paths) == {"audio_offset": ["a", "c"]}
    forget_changed(paths, ["c"])
    assert read_changed(paths) == {"audio_offset": ["a"]}
    forget_changed(paths, ["a", "b"])
    assert read_changed(paths) == {} and not paths.changed_videos.exists()


def test_nothing_is_said_before_anything_can_have_been_computed(run, tmp_path):
    update_with, paths = run
    assert not update_with(FIRST.replace("1.5", "2"), planned=False) and not paths.changed_videos.exists()
