"""The lines at the end of a run name what this run has written, and nothing older."""

from __future__ import annotations

import os
from pathlib import Path

from config.outcome import stamps, words
from config.paths import Paths


def test_what_this_run_wrote_is_named(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    page = paths.report / "index.html"
    assert words(paths, stamps(paths)) == []
    page.parent.mkdir()
    page.write_text("old")
    paths.failures.write_text("video_id,path,backbone\nsame,a.mp4,musicnn\nsame,a.mp4,r2plus1d\nother,b.mp4,musicnn\n")
    assert words(paths, {}) == [f"2 videos lack features; the reasons: {paths.failures}", f"the report: {page}"]
    before = stamps(paths)
    assert words(paths, before) == []
    page.write_text("new")
    os.utime(page, ns=(before[page] + 1, before[page] + 1))
    paths.failures.write_text("video_id,path,backbone\n")
    os.utime(paths.failures, ns=(before[paths.failures] + 1,) * 2)
    assert words(paths, before) == [f"the report: {page}"]
