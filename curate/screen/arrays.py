"""Arrays that searches and rules about wording pass on."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""Places of rows, or how many there are of something."""
Vectors = NDArray[np.float16] | NDArray[np.float32]
"""(rows, dimensions)."""
Mask = NDArray[np.bool_]
Cosines = NDArray[np.float32]
