"""The probes' figures in the paper (Veldkamp et al. 2023, arXiv 2309.00347, experiments 2 and 3). No files.

Tagging: the ten most frequent tags on 9,416 tracks of the Million Song Dataset; genre: about 30 genres, a private set.
The published genre head takes its softmax over the batch instead of the classes, and its backbones were
in training mode.
"""

from __future__ import annotations

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
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
