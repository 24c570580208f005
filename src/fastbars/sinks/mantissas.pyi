from typing import Any

import numpy as np
import numpy.typing as npt

def read_mantissas(
    bars: list[Any], name: str, scale: int, out: npt.NDArray[np.int64], known: npt.NDArray[np.uint8]
) -> int:
    """Write an attribute of each, a Decimal or None, at this scale: low and high 64 bits to `out`, [n, 2], and whether
    there is one to `known`; -1, or the first with more decimals than the scale, or too many digits to be read so."""
