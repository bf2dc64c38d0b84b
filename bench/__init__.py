import config  # noqa: F401  # before PyTorch is loaded: see config/threads.py
