"""zstd, from Python's own library (3.14 and later) or from the `zstandard` package of the cli extra."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Protocol

from fastbars.errors import TapeError

# Compressed bytes that are decompressed at once. A byte of zstd can become 32,768 bytes, one of gzip 1,032: even a
# hostile piece takes no more than 32 MB.
PIECE_BYTES = 1 << 10


def pieces_of(data: bytes) -> Iterator[bytes]:
    """Compressed data in pieces, each of which can be decompressed at once."""
    return (data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES))


class Decompressor(Protocol):
    """Decompresses one gzip member or zstd frame."""

    def decompress(self, data: bytes, /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


def decompressors(what: object) -> tuple[Callable[[], Decompressor], type[Exception]]:
    """A function that makes a decompressor of one frame, and the error that damaged data raises.

    Raises:
        TapeError: this installation has no zstd; the message names `what` needs it, and what to install.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - only Python 3.14 has it

        return zstd.ZstdDecompressor, zstd.ZstdError
    else:  # noqa: RET505 - mypy must see that only one branch exists
        try:
            import zstandard  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise TapeError(f'{what}: reading zstd needs the cli extra: pip install "fastbars[cli]"') from error
        return lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError


def compressor(what: object, level: int) -> Callable[[bytes], bytes]:
    """A function that compresses bytes into one zstd frame.

    Raises:
        TapeError: this installation has no zstd.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - only Python 3.14 has it

        return lambda data: zstd.compress(data, level)
    else:  # noqa: RET505 - mypy must see that only one branch exists
        try:
            import zstandard  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise TapeError(f'{what}: recording needs the cli extra: pip install "fastbars[cli]"') from error
        return zstandard.ZstdCompressor(level=level).compress
