"""The way github.com/v-iashin/video_features extracts R(2+1)D, rebuilt as the baseline of bench.extract.

Reads one video; writes nothing. Taken over from it: the whole file is decoded at its own rate, every frame becomes
a float tensor, resized and normalised in torch; the network is torchvision's as it is, one clip at a time.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from bench.measure import SECONDS

FPS, WINDOW = 10.0, 30


def run(path: Path, starts: list[float], weights: Path, limit: float | None = None) -> dict[str, Any]:
    """Return processor seconds of this thread for one video, torch having one thread.

    `pictures`: decoding and transforming every frame. `segments`: the network on the segments that we look at;
    `clip`: one of them. `limit` stops after so many seconds of video.
    """
    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file

    from pipeline.backbones.r2plus1d import MEAN, STD, _network

    net = _network()
    net.load_state_dict(load_file(weights), strict=False)
    net.eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    frames, times = [], []
    clock = time.thread_time()
    with torch.no_grad(), av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.time is not None
            if limit is not None and frame.time > limit:
                break
            image = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).float() / 255
            small = F.interpolate(image[None], (128, 171), mode="bilinear", align_corners=False)[0]
            frames.append((((small - mean) / std)[:, 8:120, 30:142]).clone())
            times.append(frame.time)
        decoding = time.thread_time() - clock
        clock = time.thread_time()
        for start in starts:
            wanted = start + np.arange(round(SECONDS * FPS)) / FPS
            index = np.maximum(np.searchsorted(times, wanted + 5e-4, side="right") - 1, 0)
            net(torch.stack([frames[i] for i in index], 1)[None])
    segments = time.thread_time() - clock
    return {"pictures": decoding, "segments": segments, "clip": segments / len(starts), "frames": len(frames)}
