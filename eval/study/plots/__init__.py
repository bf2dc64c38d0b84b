"""The study's plots: one module a part, drawn from the tables of its answer."""
