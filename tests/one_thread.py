"""Lets NumPy and torch use one thread. They read these variables when they are first imported.

Each core has a worker of pytest, and threads that wait for a core double the CPU time.
"""

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
