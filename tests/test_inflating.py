"""Zip and gzip files come out whole, wherever pieces of input and output end."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from fastbars.archives import opening


@pytest.mark.parametrize("deflate", [None, zlib], ids=["as installed", "zlib"])
def test_what_was_packed_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deflate: ModuleType | None) -> None:
    # All input may have been taken while output is still held back: such a file is not cut off.
    if deflate is not None:
        monkeypatch.setattr(opening, "inflater", lambda: deflate)
    random = Random(1)
    packed, zipped = tmp_path / "a.csv.gz", tmp_path / "a.zip"
    for length in (1, 65_535, 65_536, 65_537, 131_072, 131_073, *(random.randrange(300_000) for _ in range(8))):
        for text in (b"1234,5.5,1\n" * (length // 11), bytes(random.choices(b"0123456789,.\n", k=length))):
            packed.write_bytes(gzip.compress(text))
            with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("a.csv", text)
            for path in (packed, zipped):
                assert b"".join(b"".join(pieces) for _, pieces in opening.texts(path)) == text
    packed.write_bytes(gzip.compress(text)[:-9])
    with pytest.raises(EOFError, match="no end mark"):
        b"".join(b"".join(pieces) for _, pieces in opening.texts(packed))
