"""A small collection of real files, extracted by the pipeline with descriptors (no network), with untrained heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bench.runs import Run, write_table
from config.model import Config
from heads.checkpoint import About, save_checkpoint
from heads.embed import embed
from heads.model import build
from heads.runs import runs
from heads.standardise import Standardiser
from pipeline.features import open_features
from tests.support.media import Audio, Video, chirp, numbered_frame, regular, write

NAMES = ("sound_descriptors", "picture_descriptors")
SECONDS = 8.0
SEGMENTS = {"count": 2, "seconds": 3.0, "window": 3.2}


def film(path: Path, number: int, seconds: float = SECONDS) -> str:
    """Write a film whose audio and frames depend on its number."""

    def draw(k: int, width: int, height: int) -> np.ndarray:
        return numbered_frame(k + 211 * number, width, height)

    audio = Audio(seconds, wave=lambda t: chirp(t * (1 + number)) * 0.5**number, rate=44100)
    return write(path, Video(regular(seconds, 10), gop=10, draw=draw), audio)


def collection(folder: Path, films: int = 5) -> Run:
    """Write films `v0` … and a file that is none, `broken`, with the cache of their descriptors."""
    files = [(f"v{i}", Path(film(folder / f"v{i}.mp4", i))) for i in range(films)]
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no film")
    table = write_table(folder / "videos.parquet", [*files, ("broken", broken)])
    backbones = {name: {"weights": "none"} for name in NAMES}
    experiment = {"hidden": [16], "embedding": 8, "output": "linear", "dropout": 0, "standardise": True}
    heads = {"audio": NAMES[0], "video": NAMES[1], "experiments": {"untrained": experiment}}
    run = Run(folder / "results", table, backbones, segments=SEGMENTS, heads=heads)
    run.prepare()
    for (part, _), ended in run.extract(60).items():
        assert ended.status == 0, (part, ended.text)
    return run


def embed_untrained(config: Config, name: str = "untrained") -> None:
    """Write heads with random weights, and the embeddings of all videos by them."""
    view, sides = open_features(config.paths), config.sides(name)
    keys = {backbone: view.key(backbone) for backbone in sides.backbones}
    dims = (sum(map(view.dim, sides.audio)), sum(map(view.dim, sides.video)))
    for run in runs(config, name):
        torch.manual_seed(run.seed)
        heads = build(config.experiment(name), *dims)
        for head, side in ((heads.audio, sides.audio), (heads.video, sides.video)):
            if head.scaling is not None:
                good = torch.from_numpy(view.joined(side)[view.valid(*side)]).flatten(0, 1)
                head.scaling.set(Standardiser.fit(good.shape[1], [good]))
        about = About(
            config.experiment(name).model_dump(mode="json"),
            *(run.seed, "+".join(sides.audio), "+".join(sides.video), *dims, keys, dict.fromkeys(keys, False), "none"),
        )
        save_checkpoint(run.folder / "checkpoint.safetensors", heads.state_dict(), about)
    embed(config, name)
