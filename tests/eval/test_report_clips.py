"""The clips of the report: their size and content, which are cut, and which are deleted."""

from pathlib import Path

import av
import numpy as np
import pytest

from eval.report import media
from eval.report.clip import HEIGHT, WIDTH, clip
from tests.support.media import Audio, Video, regular, write
from tests.support.simulate import simulate

pytestmark = pytest.mark.workflow


def test_a_clip_keeps_the_aspect_ratio_and_no_metadata(tmp_path: Path) -> None:
    def bright(number: int, width: int, height: int) -> np.ndarray:
        return np.full((height, width, 3), 200, np.uint8)

    upright = Video(regular(4, 10), width=90, height=160, draw=bright)
    path = write(tmp_path / "tall.mp4", upright, Audio(4.0))
    sizes = clip(path, 0.5, 2.0, str(tmp_path / "out"), "pyav")
    assert sizes == tuple((tmp_path / f"out.{kind}").stat().st_size for kind in ("mp4", "jpg"))
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert not {"title", "artist", "comment"} & set(file.metadata)
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == 20 and frames[0].shape == (HEIGHT, WIDTH, 3)
    lit = frames[10].mean(axis=(0, 2)) > 100
    assert lit.sum() == pytest.approx(HEIGHT * 90 / 160, abs=4) and not lit[:40].any() and not lit[-40:].any()


def test_clips_are_cut_once_up_to_a_limit_and_removed_when_not_shown(tmp_path: Path) -> None:
    film = write(tmp_path / "film.mp4", Video(regular(12, 5)), Audio(12.0))
    config = simulate(tmp_path / "results", videos=20)
    items = [{"video_id": f"v{i}", "path": film, "start": float(i)} for i in range(6)]
    items.append({"video_id": "gone", "path": str(tmp_path / "gone.mp4"), "start": 1.0})
    every = media.cut(items, config, tmp_path)
    assert len(every.names) == 6 and list(every.unreadable) == [("gone", 1.0)] and not every.left_out
    files = sorted((tmp_path / media.FOLDER).iterdir())
    written = {path: path.stat().st_mtime_ns for path in files}
    assert len(files) == 12 and every.bytes == sum(path.stat().st_size for path in files)
    again = media.cut(items[:3], config, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / media.FOLDER).iterdir()}.items() <= written.items()
    assert len(list((tmp_path / media.FOLDER).iterdir())) == 6 and len(again.names) == 3
    few = media.cut(items[:6], config, tmp_path, limit=1)
    assert 1 <= len(few.names) < 6 and few.left_out + len(few.names) == 6
