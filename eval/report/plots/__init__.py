"""The report's plots: each function draws one, for a phone's width, and describes it in its alt text."""
