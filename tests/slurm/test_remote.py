"""Slurm jobs whose videos are on the network: the same features as from the disk, keys passed on by the environment."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import zarr

from bench.fault_server import FaultServer
from bench.remote_servers import KEYS, allowing, authority, bucket, verify
from tests.support.slurm import SHARD, VIDEOS
from tests.support.workflow import snakemake


def table(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ["video_id", "path"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_videos_on_the_network(workflow, videos, tmp_path):
    rows = [{"video_id": row["video_id"], "path": row["path"]} for row in csv.DictReader(open(videos))]
    files = [Path(videos).parent / row["path"] for row in rows]
    own = {f"/clips/{number}.mp4": file.read_bytes() for number, file in enumerate(files)}
    here = workflow.config | {
        "results": str(tmp_path / "local"),
        "videos": str(table(tmp_path / "local.csv", [r | {"path": str(f)} for r, f in zip(rows, files, strict=True)])),
    }
    made = authority(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with (
        FaultServer(own.get, made.tls, defaultdict(list)) as web,
        FaultServer(own.get, made.tls, defaultdict(list), verify) as s3,
    ):
        web.faults["/clips/2.mp4"] = ["cut", "cut"]
        s3.faults["/clips/3.mp4"] = ["503 1", "reset"]
        at = [
            f"https://localhost:{web.port}/clips/{i}.mp4" if i % 2 == 0 else f"s3://clips/{i}.mp4"
            for i in range(VIDEOS)
        ]
        remote = allowing(made, web.port, s3={"clips": bucket(s3.port)})
        workflow.config["videos"] = str(
            table(tmp_path / "remote.csv", [r | {"path": p} for r, p in zip(rows, at, strict=True)])
        )
        workflow.config["decoding"] = {"remote": remote.model_dump(mode="json"), "staging": str(scratch)}
        workflow.env = dict(KEYS)
        workflow.run("extract")
        asked = [request.path for server in (web, s3) for request in server.requests]
    assert sum(job["state"] == "COMPLETED" for job in workflow.jobs("extract_shard")) == VIDEOS // SHARD
    assert {path: asked.count(path) >= 2 for path in own} == dict.fromkeys(own, True)  # by the probe and the extraction
    assert not list(scratch.iterdir())
    snakemake(tmp_path, here, "extract")
    for name in ("musicnn", "start", "musicnn_valid"):
        remote_array, local_array = (
            zarr.open_group(Path(results) / "features.zarr", mode="r")[name][:]
            for results in (workflow.results, here["results"])
        )
        np.testing.assert_array_equal(remote_array, local_array)
