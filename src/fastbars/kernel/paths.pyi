from typing_extensions import disjoint_base

from fastbars.kernel.close import BarClosing

@disjoint_base
class BarPaths(BarClosing):
    """Fills bars that a number of trades, a volume or a value closes; the arguments are those of `BarRecords`."""
