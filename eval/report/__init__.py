"""The report: what was run on what, what came out, how sure. One HTML page that opens from disk."""
