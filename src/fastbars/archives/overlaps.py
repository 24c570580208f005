"""Files that overlap, such as a month beside its days, as one stream of trades: by id, each trade once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fastbars.archives.columns import TradeColumns
from fastbars.archives.declaration import ArchiveFile
from fastbars.archives.reading import read_trades
from fastbars.errors import TapeError

__all__ = ["part_of", "read_merged"]


def part_of(block: TradeColumns, start: int, stop: int) -> TradeColumns:
    """The rows start to stop (exclusive) of a block."""
    if start == 0 and stop == len(block.time_ns):
        return block
    first_id = None if block.first_id is None else block.first_id[start:stop]
    return block._replace(
        symbol=block.symbol[start:stop],
        time_ns=block.time_ns[start:stop],
        price=block.price[start:stop],
        size=block.size[start:stop],
        side=block.side[start:stop],
        first_id=first_id,
        last_id=first_id if block.last_id is block.first_id else block.last_id[start:stop],  # type: ignore[index]
        count=None if block.count is None else block.count[start:stop],
        first_row=block.first_row + start,
    )


class _Source:
    # A file, up to the trades that are wanted next.

    def __init__(self, file: ArchiveFile) -> None:
        self.file = file
        self._blocks = read_trades(file)
        self.block: TradeColumns | None = None
        self.at = 0

    def skip(self, emitted: int) -> bool:
        # To the first trade behind the id `emitted`. False: there is none.
        while True:
            if self.block is None or self.at == len(self.block.time_ns):
                before = None if self.block is None or self.block.last_id is None else int(self.block.last_id[-1])
                self.block, self.at = next(self._blocks, None), 0
                if self.block is None:
                    return False
                self._check(before)
            assert self.block is not None
            assert self.block.last_id is not None
            self.at = max(self.at, int(np.searchsorted(self.block.last_id, emitted, "right")))
            if self.at < len(self.block.time_ns):
                return True

    def _check(self, before: int | None) -> None:
        block = self.block
        assert block is not None
        assert block.first_id is not None
        assert block.last_id is not None
        wrong = block.first_id[1:] <= block.last_id[:-1]
        if wrong.any() or (before is not None and block.first_id[0] <= before):
            row = block.first_row + (int(wrong.argmax()) + 1 if wrong.any() else 0)
            raise TapeError(
                f"{self.file.path}: row {row}: its id does not rise; only files in order of id can be joined"
            )

    @property
    def next_id(self) -> int:
        assert self.block is not None
        assert self.block.first_id is not None
        return int(self.block.first_id[self.at])

    def take(self, emitted: int) -> TradeColumns:
        # The trades up to the first hole.
        block, start = self.block, self.at
        assert block is not None
        assert block.first_id is not None
        assert block.last_id is not None
        if block.first_id[start] <= emitted:
            raise TapeError(
                f"{self.file.path}: row {block.first_row + start}: its ids {block.first_id[start]} to"
                f" {block.last_id[start]} are partly those of another file's rows"
            )
        holes = block.first_id[start + 1 :] != block.last_id[start:-1] + 1
        self.at = start + 1 + int(holes.argmax()) if holes.any() else len(block.time_ns)
        return part_of(block, start, self.at)


def read_merged(files: Sequence[ArchiveFile]) -> Iterator[tuple[ArchiveFile, TradeColumns]]:
    """The trades of files of one symbol with contiguous ids, in order of id, each once.

    Of trades that several files have, those of the first are taken.

    Raises:
        TapeError: as `read_trades`; or the ids of a file do not rise.
    """
    if len(files) == 1:
        yield from ((files[0], block) for block in read_trades(files[0]))
        return
    sources = [_Source(file) for file in files]
    emitted = -1
    while True:
        sources = [source for source in sources if source.skip(emitted)]
        if not sources:
            return
        nearest = min(sources, key=lambda source: source.next_id)
        block = nearest.take(emitted)
        assert block.last_id is not None
        emitted = int(block.last_id[-1])
        yield nearest.file, block
