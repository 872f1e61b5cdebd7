import os
from pathlib import Path

# As the analysis worker does it for itself (services/analysis/worker.py): each process of the tests, with the suite
# that it starts, keeps librosa's compiled functions in a folder of its own.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / f"numba-{WORKER}")
