"""What the pictures nearest to a sound look like, for a few test videos: the report shows them.

Reads the manifest, the cache's segment times and an experiment's embeddings. Writes eval/EXPERIMENT/neighbours.json:
for some test videos drawn by `eval.seed`, the five test videos whose pictures are most similar to the video's sound
(whole videos, as in eval/retrieval.py), the rank of its own pictures, and times to take thumbnails at.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.cli import experiment_parser, run
from config.files import write_json
from config.model import Config, read
from config.paths import Paths
from eval.ranks import ranks
from eval.retrieval import load_test, pooled

log = logging.getLogger("neighbours")
QUERIES, NEAREST = 6, 5


def neighbours(config: Config, name: str) -> dict[str, Any]:
    """Look up the neighbours for one experiment and write its JSON; returns it."""
    test, view = load_test(config, name)
    audio, video = pooled(test.audio), pooled(test.video)
    rank, _ = ranks(audio, video)
    rows = test.table["row"].to_numpy()
    # The middle segment: openings and endings are often black.
    start = view.start()[rows, test.audio.shape[1] // 2]
    videos = test.table.select(["row", "video_id", "path", "artist", "genre"]).to_pylist()
    for one, seconds in zip(videos, start.tolist(), strict=True):
        one["start"] = seconds if math.isfinite(seconds) else None
    rng = np.random.default_rng(np.random.SeedSequence([config.eval.seed % 2**64, 0]))
    chosen = np.sort(rng.choice(len(rows), size=min(QUERIES, len(rows)), replace=False))
    similar = audio[chosen] @ video.T
    order = np.argsort(-similar, axis=1, kind="stable")[:, :NEAREST]
    queries = [
        videos[query]
        | {
            "rank": float(rank[query]),
            "similarity": float(similar[i, query]),
            "nearest": [
                videos[j] | {"similarity": float(similar[i, j]), "is_partner": bool(j == query)} for j in order[i]
            ],
        }
        for i, query in enumerate(chosen)
    ]
    written = {
        "experiment": name,
        "keys": test.record["keys"],
        "random_weights": test.record["random_weights"],
        "embeddings": test.record["digest"],
        "direction": "audio_to_video",
        "gallery": len(rows),
        "seed": config.eval.seed,
        "queries": queries,
    }
    write_json(Paths(Path(config.results)).eval(name) / "neighbours.json", written)
    return written


def main() -> None:
    args = experiment_parser(__doc__, "eval.neighbours").parse_args()
    torch.set_num_threads(args.threads)
    for query in neighbours(read(args.config), args.experiment)["queries"]:
        log.info("%s: its own pictures have rank %.1f", query["video_id"], query["rank"])


if __name__ == "__main__":
    run(main)
