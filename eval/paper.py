"""The paper's own figures of experiment 1, to stand beside ours (Veldkamp et al. 2023, arXiv 2309.00347). No files.

Median rank of the true partner among 1,000 segments. What the published evaluation code computes under that name is
not a rank (eval/published.py); whether that code made the published table nobody outside can know.
Experiments 2 and 3 are in eval/probe/published.py.
"""

from __future__ import annotations

GALLERY = 1000
MEDIAN_RANKS: dict[str, dict[str, int]] = {
    "baseline": {"audio_to_video": 507, "video_to_audio": 502},
    "embedding_512": {"audio_to_video": 494, "video_to_audio": 498},
    "four_layers": {"audio_to_video": 503, "video_to_audio": 501},
    "single_head": {"audio_to_video": 499, "video_to_audio": 497},
    "temperature_03": {"audio_to_video": 497, "video_to_audio": 503},
    "autoencoder": {"audio_to_video": 501, "video_to_audio": 500},
}
"""By the experiments' names in config/paper.yaml."""
