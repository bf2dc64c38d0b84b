"""Memory of a job over 2,000 videos: that of the job itself and of its decoding processes, measured while it runs.

    python -m bench.memory            writes bench/results/memory.json

A few rendered videos are listed 2,000 times and read for real: audio by PyAV, video by PyAV and by decord, with the
light backbones of `bench.light`, so that what grows is the pipeline's. Reported are the resident set of the job and of
its largest worker (MiB), and the slope of a straight line through the job's, start left out. Writes into a temporary
folder.
"""

from __future__ import annotations

import subprocess
import time
from typing import Any

import numpy as np
import psutil

from bench.measure import ROOT, save
from bench.runs import Run, show, size_of, working_folder, write_table
from config.cli import parser
from config.pipeline import Render
from data.render import render_video

STAGES = (("light", "pyav"), ("light_video", "pyav"), ("light_video", "decord"))
SETTLED = 0.2
"""Share of the videos that is left out of the slope: libraries load, and buffers reach their size."""


def sample(process: psutil.Process) -> tuple[float, float]:
    """Return the resident set (MiB) of a process and of its largest child."""
    workers = [0.0]
    for child in process.children():
        try:
            workers.append(child.memory_info().rss / 2**20)
        except psutil.NoSuchProcess:
            continue  # recycled meanwhile
    return process.memory_info().rss / 2**20, max(workers)


def measure(run: Run, part: str, videos: int) -> dict[str, Any]:
    """Run the job of one part and sample its memory twice a second; progress is read off the journal's size."""
    journal = run.paths.work(part, 0) / "journal"
    rows: list[tuple[int, float, float]] = []
    job = subprocess.Popen(run.job(part, 0), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = psutil.Process(job.pid)
    while job.poll() is None:
        try:
            rows.append((max(0, size_of(journal)), *sample(process)))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.5)
    if job.wait():
        raise RuntimeError(f"{part} ended with {job.returncode}")
    grown, main, worker = np.array(rows).T
    decoded = grown / grown.max() * videos
    # The journal is gone while the shard is written, which is not decoding.
    settled = (decoded > SETTLED * videos) & (np.arange(len(decoded)) <= grown.argmax())
    slope = np.polyfit(decoded[settled] / 1000, main[settled], 1)[0]
    marks = [int(np.abs(decoded - videos * i / 10).argmin()) for i in range(1, 11)]
    return {
        "samples": len(rows),
        "job_mib_every_tenth": [round(float(main[i]), 1) for i in marks],
        "largest_worker_mib_every_tenth": [round(float(worker[i]), 1) for i in marks],
        "job_slope_mib_per_1000_videos": round(float(slope), 2),
        "job_peak_mib": round(float(main.max()), 1),
        "worker_peak_mib": round(float(worker.max()), 1),
    }


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.memory", config=False)
    command_line.add_argument("--videos", type=int, default=2000)
    command_line.add_argument(
        "--recycle", type=int, default=500, help="decoding.recycle; as many as --videos shows decoders' leaks"
    )
    command_line.add_argument("--no-result", action="store_true", help="print the result instead of writing it")
    arguments = command_line.parse_args()
    stages = {}
    with working_folder() as folder:
        render = Render(videos=8, seconds=(4.0, 6.0), seed=2)
        media = [render_video(render, i, folder) for i in (0, 1, 2, 3, 7)]
        table = write_table(folder / "v.parquet", [(f"v{i}", media[i % len(media)]) for i in range(arguments.videos)])
        for backbone, decoder in STAGES:
            decoding = {"video": decoder, "recycle": arguments.recycle}
            results = folder / f"{backbone}-{decoder}"
            run = Run(results, table, {backbone: {"weights": "none"}}, shard_videos=arguments.videos, decoding=decoding)
            run.prepare()
            if "probe" not in stages:
                stages["probe"] = measure(run, "probe", arguments.videos)
            else:
                subprocess.run(run.job("probe", 0), cwd=ROOT, check=True, capture_output=True)
            stages[f"{backbone}/{decoder}"] = measure(run, backbone, arguments.videos)
    result = {"videos": arguments.videos, "recycle": arguments.recycle, "stages": stages}
    show(result) if arguments.no_result else save(
        "memory", f"python -m bench.memory --videos {arguments.videos}", result
    )


if __name__ == "__main__":
    main()
