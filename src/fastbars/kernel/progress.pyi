from typing import final

@final
class Progress:
    """What one reader was shown of the open bars of a kernel, for `BarKernel.changed`."""

    def forget(self, symbol_id: int, spec: int) -> None:
        """As if the open bar of a symbol and spec, by their numbers, had not been shown."""
