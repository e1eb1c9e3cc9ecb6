"""For all tests."""

import os

# Before numpy is loaded. Its threads wait for each other busily: where tests share the cores, training took 100 times as long with them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
