"""The map of all videos to browse: its table (`python -m eval.atlas`) and its site (`python -m eval.atlas.site`)."""
