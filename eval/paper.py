"""The paper's own results, for comparison (Veldkamp et al. 2023, arXiv 2309.00347). Reads and writes nothing.

Experiment 1: median rank of the positive among 1,000 segments. What the published evaluation code computes under that
name is not a rank and is half the gallery for any model (eval/published.py). As it stands (commit 06bf64b), that code
cannot have made the table: it logs one number for both directions, and all six rows have two. Which code did cannot be
known from what is published. study/paper_code/ runs that code.
Experiments 2 and 3: probes. Tagging: the ten most frequent tags on 9,416 tracks of the Million Song Dataset; genre:
about 30 genres, a private set. The published genre head takes its softmax over the batch instead of the classes, and
its backbones were in training mode. How the paper chose the thresholds of F1 is not known: ours come from the
validation split, and F1 at a threshold of ½ stands beside them.
"""

from __future__ import annotations

GALLERY = 1000
MEDIAN_RANKS: dict[str, dict[str, int]] = {
    "baseline": {"audio_to_video": 507, "video_to_audio": 502},
    "embedding_512": {"audio_to_video": 494, "video_to_audio": 498},
    "four_layers": {"audio_to_video": 503, "video_to_audio": 501},
    "single_head": {"audio_to_video": 499, "video_to_audio": 497},
    "temperature_0_3": {"audio_to_video": 497, "video_to_audio": 503},
    "autoencoder": {"audio_to_video": 501, "video_to_audio": 500},
}
"""By the experiments' names in config/paper.yaml."""

PROBE_SCORES: dict[str, dict[str, dict[str, float]]] = {
    "tagging": {
        "audio": {"auc": 0.78, "f1": 0.22},
        "video": {"auc": 0.66, "f1": 0.09},
        "audio_video": {"auc": 0.78, "f1": 0.24},
        "cl_audio": {"auc": 0.70, "f1": 0.10},
        "cl_video": {"auc": 0.61, "f1": 0.09},
        "cl_aggregated": {"auc": 0.71, "f1": 0.11},
    },
    "genre": {
        "audio": {"auc": 0.79, "f1": 0.18},
        "video": {"auc": 0.68, "f1": 0.05},
        "audio_video": {"auc": 0.82, "f1": 0.21},
        "cl_audio": {"auc": 0.69, "f1": 0.08},
        "cl_video": {"auc": 0.63, "f1": 0.04},
        "cl_aggregated": {"auc": 0.68, "f1": 0.07},
    },
}
"""{task: {representation: macro ROC-AUC and macro F1}}."""
