"""Probes: how much of genre and tags the representations tell (experiments 2 and 3 of the paper)."""
