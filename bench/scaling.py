"""How the reader's scaling compares with what image networks were trained on: Pillow's, as torchvision and timm do it.

    python -m bench.scaling FOLDER

Writes H.264 files of photographs into FOLDER, fetches EfficientNet-Lite0's weights into it, and writes
bench/results/scaling.json. What all are compared with is Pillow's scaling of the same decoded frames.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bench.images import SIZE, weights
from bench.measure import markdown, save, start
from config.cli import parser

SHORTER, FRAMES = 256, 32
"""The shorter side that timm scales frames to for this network, and the number of frames."""
FILES = ((1280, 720), (640, 360), (320, 240))
"""Width and height in pixels."""
WAYS: dict[str, dict[str, Any]] = {
    "bicubic (used)": {"resize": SHORTER, "interpolation": "bicubic"},
    "bilinear": {"resize": SHORTER},
    "squashed instead of cropped, bicubic": {"resize": (SHORTER, SHORTER), "interpolation": "bicubic"},
}
"""{words: arguments of the reader}."""


def write(folder: Path, width: int, height: int) -> Path:
    """Write a file whose frames are parts of scikit-learn's two photographs, one frame a second; return its path."""
    import av
    from PIL import Image
    from sklearn.datasets import load_sample_images

    path = folder / f"photographs_{width}x{height}.mp4"
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=1, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(FRAMES):
            wide = 640 - 8 * number
            tall = wide * height / width * min(1, 427 / (640 * height / width))
            part = (4 * number, 0, 4 * number + wide, tall)
            image = photographs[number % 2].resize((width, height), Image.Resampling.LANCZOS, part)
            frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def bench(folder: Path) -> dict[str, Any]:
    """Compare every way of scaling on every file; return the result file's content."""
    from PIL import Image

    from pipeline.backbones.timm_images import TimmImages
    from pipeline.backbones.torchvision_import import import_torchvision
    from pipeline.readers.video import read_video

    file, options = weights(folder)
    network = TimmImages(file, options, "cpu", 1)
    transforms = import_torchvision().transforms
    bicubic = transforms.Resize(SHORTER, transforms.InterpolationMode.BICUBIC)
    pillow = transforms.Compose([bicubic, transforms.CenterCrop(SIZE)])
    rows = []
    for width, height in FILES:
        path = str(write(folder, width, height))
        decoded = read_video(path, [0.0], FRAMES, fps=1, resize=(height, width), crop=(height, width))[0]
        expected = np.stack([np.asarray(pillow(Image.fromarray(frame))) for frame in decoded])
        theirs = network.features(expected[:, None])
        for words, how in WAYS.items():
            ours = read_video(path, [0.0], FRAMES, fps=1, crop=(SIZE, SIZE), **how)[0]
            difference = network.features(ours[:, None]) - theirs
            error = np.linalg.norm(difference, axis=1) / np.linalg.norm(theirs, axis=1)
            rows.append(
                {
                    "file": f"{width}×{height}",
                    "way": words,
                    "pixels": round(float(np.abs(ours.astype(int) - expected).mean()), 2),
                    "features_mean": round(float(error.mean()), 4),
                    "features_max": round(float(error.max()), 4),
                }
            )
    return {"frames": FRAMES, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """Return the comparison as Markdown, one file and way a line."""

    def cells(row: dict[str, Any]) -> list[str]:
        return [
            row["file"],
            row["way"],
            f"{row['pixels']:.1f}",
            f"{row['features_mean']:.1%}",
            f"{row['features_max']:.1%}",
        ]

    header = ["frames", "scaling by the reader", "pixels, of 255", "features, mean", "features, largest"]
    return markdown(header, map(cells, result["rows"]))


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.scaling", config=False)
    command_line.add_argument("folder", type=Path, help="where the bench's files are kept")
    result = bench(command_line.parse_args().folder)
    save("scaling", "python -m bench.scaling FOLDER", result)
    print(table(result))


if __name__ == "__main__":
    start(main)
