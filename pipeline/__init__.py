"""Frozen backbones look at every video once and leave what they saw in Zarr shards."""

import config  # noqa: F401  # before PyTorch is loaded: see config/threads.py
