"""Configuration, paths and command line: what every stage shares, one module each.

Importing it sets how OpenMP threads wait, which must come before PyTorch is loaded: see config/threads.py.
"""

from config.threads import wait_briefly

wait_briefly()
