"""The report's plots: each function draws one, for a phone's width, and says in words what it shows."""
