"""One frame of each video that the report shows. Reads those videos, in a worker process; writes nothing."""

from __future__ import annotations

import base64
import io
import logging
from typing import Any

from PIL import Image

from config.model import Config
from pipeline.readers import MediaError
from pipeline.workers import Pool, Task

log = logging.getLogger("report")
HEIGHT, WIDTH = 90, 160


def thumbnails(videos: list[dict[str, Any]], config: Config) -> dict[str, str]:
    """{video_id: JPEG as data URI} for dicts with `video_id`, `path` and `start` (seconds or None).

    A video that cannot be read any more has no entry.
    """
    wanted = {v["video_id"]: v for v in videos if v["start"] is not None}
    fixed = {"seconds": 1.0, "fps": 1.0, "resize": (HEIGHT, WIDTH), "crop": (HEIGHT, WIDTH)}
    reader = "pipeline.readers.video:read_video"
    tasks = (
        Task(name, reader, {"path": v["path"], "starts": [v["start"]], "decoder": config.decoding.video, **fixed})
        for name, v in wanted.items()
    )
    found = {}
    with Pool(1, config.decoding) as pool:
        for name, answer in pool.results(tasks, ahead=2):
            if isinstance(answer, MediaError):
                log.warning("no thumbnail of %s: %s", name, answer)
            else:
                buffer = io.BytesIO()
                Image.fromarray(answer[0, 0]).save(buffer, "JPEG", quality=80)
                found[name] = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return found
