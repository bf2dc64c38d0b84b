"""The study: the paper's open questions, one module a part, and the page that tells their answers."""
