"""Near-duplicates: groups of videos that are the same by the features in the cache, by audio, video or both.

    python -m pipeline.duplicates RESULTS

`space` makes features comparable, `search` finds the pairs, `units` joins them to groups; `report` counts and writes.
"""
