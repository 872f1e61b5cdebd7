"""`import msaf` with SciPy 1.12 or newer.

msaf 0.1.80 contains a copy of pymf that does `from scipy import inf`, a name that SciPy has dropped.
"""

import math
import warnings

import scipy


def import_msaf() -> None:
    """Imports msaf; afterwards `from msaf.… import …` works everywhere in the process.

    `scipy.inf` exists only during this one import.
    """
    scipy.inf = math.inf
    try:
        with warnings.catch_warnings():
            # pymf also tries `scipy.misc`, but works without it.
            warnings.simplefilter("ignore", DeprecationWarning)
            import msaf  # noqa: F401
    finally:
        del scipy.inf
