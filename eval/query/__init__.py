"""Queries: a file, or a video of the collection, against the embeddings of all videos."""
