"""Frozen backbones extract features of every video once and store them in Zarr shards."""

import config  # noqa: F401  # before PyTorch is loaded: see config/threads.py
