"""Frozen backbones look at every video once and leave what they saw in Zarr shards."""
