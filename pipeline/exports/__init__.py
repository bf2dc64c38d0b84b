"""Formats that a selection of the cache is written in, a module each; `python -m pipeline.export` is their command."""
