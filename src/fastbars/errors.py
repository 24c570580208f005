"""Every error that fastbars raises, in one tree::

    FastbarsError
    ├── PrecisionError          a number cannot be represented exactly (also a ValueError)
    ├── InvalidTickError        a trade breaks a rule: size <= 0, unknown symbol id, ... (also a ValueError)
    ├── SpecError               a bar spec such as "1m" cannot be understood (also a ValueError)
    ├── SnapshotError           a snapshot of a stream cannot be used
    ├── TapeError               a recorded file cannot be read
    ├── UnknownExchangeError    no exchange or market of that name (also a ValueError)
    └── WebSocketError          anything about a live connection
        ├── WSConnectionError   connecting failed, or the connection is lost for good
        ├── ParseError          a message could not be understood
        ├── RestError           an exchange's REST API did not answer as it should
        ├── HistoryError        the history of a symbol cannot be had
        └── SubscriptionError   the exchange refused a symbol or channel

A message names the exchange, the symbol, the value and the limit where they are known.
"""

from __future__ import annotations

from fastbars.redaction import without_credentials

__all__ = [
    "FastbarsError",
    "HistoryError",
    "InvalidTickError",
    "ParseError",
    "PrecisionError",
    "RestError",
    "SnapshotError",
    "SpecError",
    "SubscriptionError",
    "TapeError",
    "UnknownExchangeError",
    "WSConnectionError",
    "WebSocketError",
]


class FastbarsError(Exception):
    """Base of every error raised by fastbars."""


class _RowError(FastbarsError, ValueError):
    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message, row)  # both, so that a pickle has them
        self.row = row

    def __str__(self) -> str:
        return str(self.args[0])


class PrecisionError(_RowError):
    """A number cannot be represented exactly; nothing was rounded and nothing was changed.

    Attributes:
        row: index of the offending row in the batch, or None outside a batch.
    """


class InvalidTickError(_RowError):
    """A trade breaks a rule of the data model; nothing was changed.

    Attributes:
        row: index of the offending row in the batch, or None outside a batch.
    """


class SpecError(FastbarsError, ValueError):
    """A bar spec cannot be understood; the message says what would be valid."""


class SnapshotError(FastbarsError):
    """A snapshot of a stream cannot be used; the message says why, and where the file was set aside."""


class TapeError(FastbarsError):
    """A recorded file cannot be read; the message names the file and the line."""


class UnknownExchangeError(FastbarsError, ValueError):
    """No exchange, market or channel of that name; the message lists the known ones."""


class WebSocketError(FastbarsError):
    """Base of everything that goes wrong on a live connection. Its message never shows credentials."""

    def __init__(self, message: object = "", *others: object) -> None:
        super().__init__(without_credentials(str(message)), *others)


class WSConnectionError(WebSocketError):
    """Connecting failed, or the connection is lost for good."""


class ParseError(WebSocketError):
    """A message could not be understood."""


class RestError(WebSocketError):
    """An exchange's REST API did not answer as it should.

    Attributes:
        permanent: retrying the same request will not help.
        retry_after_s: seconds after which the server asks to retry; None: it does not say.
    """

    def __init__(self, message: str, *, permanent: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after_s = retry_after_s


class HistoryError(WebSocketError):
    """The history of a symbol, or a part of it, cannot be had; its live bars go on.

    Attributes:
        symbol: as the exchange writes it.
    """

    def __init__(self, message: str, symbol: str) -> None:
        super().__init__(message, symbol)
        self.symbol = symbol

    def __str__(self) -> str:
        return str(self.args[0])


class SubscriptionError(WebSocketError):
    """A subscription was refused, by the exchange or by the check of its listing; or it brings no data.

    Attributes:
        symbols: those concerned, as the user wrote them.
    """

    def __init__(self, message: str, symbols: tuple[str, ...] = ()) -> None:
        super().__init__(message, symbols)
        self.symbols = symbols

    def __str__(self) -> str:
        return str(self.args[0])
