"""Ways to run R(2+1)D: speed and fidelity of each. Float32 as torchvision has it is what all are compared with.

    python -m bench.modes FOLDER [--repeats 3] [--weights FILE]

Reads a file of bench.media in FOLDER, and weights (`--weights`: safetensors of `pipeline.weights`; otherwise random
ones, written into FOLDER). Writes bench/results/modes.json. Processor seconds on one core, one clip of 30 frames at a
time, the modes taking turns; the cosine is the lowest over six clips, as it is and after the mean over the clips
is subtracted from both.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.decode import frames_of
from bench.measure import markdown, save, start, starts_of, summary
from bench.media import SECONDS as DURATION
from bench.media import path_of, render
from bench.network import backbone, random_weights
from config.cli import parser

BAR = 0.9999


def modes(weights: Path) -> tuple[dict[str, tuple[Callable[[Any], Any], str]], dict[str, str]]:
    """Return {mode: (network, words)}, and {mode: why it cannot be run here}."""
    import torch
    from safetensors.torch import load_file

    from pipeline.backbones.r2plus1d import _network
    from pipeline.backbones.r2plus1d_fast import fold

    def plain() -> Any:
        net = _network()
        net.load_state_dict(load_file(weights), strict=False)
        return net.eval().requires_grad_(False)

    last: Any = {"memory_format": torch.channels_last_3d}
    half = torch.bfloat16
    bf16, bf16_fast = fold(plain()).to(half), backbone("r2plus1d", weights).net.to(half)
    networks = {
        "torchvision": (plain(), "as it is"),
        "channels_last": (plain().to(**last), "channels-last"),
        "folded": (fold(plain()), "folded normalisation"),
        "folded_last": (fold(plain()).to(**last), "folded, channels-last"),
        "fast": (backbone("r2plus1d", weights).net, "folded, channels-last, all convolutions by oneDNN (used)"),
        "bf16": (lambda batch: bf16(batch.to(half)).float(), "bfloat16, folded"),
        "bf16_fast": (lambda batch: bf16_fast(batch.to(half)).float(), "the used one in bfloat16"),
    }
    missing = {}
    try:
        compiled = torch.compile(fold(plain()).to(**last))
        with torch.inference_mode():
            compiled(torch.zeros(1, 3, 30, 112, 112))
        networks["compiled"] = (compiled, "folded, channels-last, torch.compile")
    except Exception as error:  # whatever a compiler that is missing or too old makes torch raise
        missing["compiled"] = f"torch.compile fails here: {type(error).__name__} {str(error)[:150]!r}"
    return networks, missing


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the lowest cosine between rows of two arrays [n, dim]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def bench(folder: Path, duration: float, repeats: int, weights: Path | None) -> dict[str, Any]:
    """Measure every mode, `repeats` times by turns; return the result file's content."""
    import torch

    torch.set_num_threads(1)
    file = render(folder, duration)[0]
    clips = frames_of("pyav", str(path_of(folder, file)), starts_of(duration))
    used = weights or random_weights(folder / "weights", "r2plus1d")
    normalise = backbone("r2plus1d", used)._normalised
    inputs = [normalise(torch.from_numpy(clip[None])) for clip in clips]
    networks, missing = modes(used)
    features, seconds = {}, defaultdict(list)
    with torch.inference_mode():
        for name, (net, _) in networks.items():
            features[name] = np.concatenate([net(batch).float().numpy() for batch in inputs])
        for repeat in range(repeats):
            for name, (net, _) in networks.items():
                clock = time.thread_time()
                net(inputs[repeat % len(inputs)])
                seconds[name].append(time.thread_time() - clock)
    reference = features["torchvision"]
    slowest = min(seconds["torchvision"])
    rows: list[dict[str, Any]] = []
    for name, (_, words) in networks.items():
        rows.append(
            {
                "mode": name,
                "words": words,
                "seconds_a_clip": summary(seconds[name]),
                "times_as_fast": round(slowest / min(seconds[name]), 2),
                "cosine": round(cosine(features[name], reference), 7),
                "cosine_centred": round(
                    cosine(features[name] - features[name].mean(0), reference - reference.mean(0)), 7
                ),
            }
        )
    rows += [{"mode": name, "words": "torch.compile", "refused": why} for name, why in missing.items()]
    return {"weights": "given" if weights else "random", "bar": BAR, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """Return the modes as Markdown, one a line."""

    def cells(row: dict[str, Any]) -> list[str]:
        if "refused" in row:
            return [row["words"], row["refused"], "", "", ""]
        speed = [f"{row['seconds_a_clip']['median']:.2f}", f"{row['times_as_fast']:.2f}"]
        return [row["words"], *speed, f"{row['cosine']:.6f}", f"{row['cosine_centred']:.6f}"]

    return markdown(["mode", "s a clip", "times as fast", "lowest cosine", "centred"], map(cells, result["rows"]))


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.modes", config=False)
    command_line.add_argument("folder", type=Path, help="where the bench's files are kept")
    command_line.add_argument("--repeats", type=int, default=3)
    command_line.add_argument("--seconds", type=float, default=DURATION, help="length of each file")
    command_line.add_argument("--weights", type=Path, help="safetensors of r2plus1d; default: random ones")
    arguments = command_line.parse_args()
    result = bench(arguments.folder, arguments.seconds, arguments.repeats, arguments.weights)
    save("modes", f"python -m bench.modes FOLDER --repeats {arguments.repeats}", result)
    print(table(result))


if __name__ == "__main__":
    start(main)
