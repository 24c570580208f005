"""Bars as lines of CSV and JSON: which fields a line has, and how names are quoted in it."""

from __future__ import annotations

import re
from functools import cache

import orjson

from fastbars.bars import BAR_FIELDS, REASONS
from fastbars.id_policy import IdPolicy, Ids
from fastbars.kernel.lines import LineMaker

CSV_HEADER = ",".join(BAR_FIELDS)

_QUOTED = re.compile('[",\r\n\v\f\x1c-\x1e\x85\u2028\u2029]')  # everything that some reader takes for a line end


def quoted(name: str) -> str:
    """A name as CSV has it: quoted where a reader would take something in it for a border (RFC 4180)."""
    return '"' + name.replace('"', '""') + '"' if _QUOTED.search(name) else name


@cache
def line_maker(form: str, ids: Ids = "contiguous") -> LineMaker | None:
    """What makes lines without their ends of rows: "csv" or "jsonl"; None for any other form.

    Args:
        form: of the lines.
        ids: what the ids of the rows prove; the rows of a BarBatch have statuses as "contiguous" ones have.
    """
    texts = IdPolicy.of(ids).statuses, REASONS
    if form == "csv":
        heads = b"", *[b","] * (len(BAR_FIELDS) - 1)
        return LineMaker(BAR_FIELDS, heads, b"", b"", False, lambda name: _utf8(quoted(name)), _utf8, *texts)
    if form == "jsonl":
        heads = tuple(b'%b"%b":' % (b"," if at else b"{", name.encode()) for at, name in enumerate(BAR_FIELDS))
        return LineMaker(BAR_FIELDS, heads, b"}", b"null", True, orjson.dumps, orjson.dumps, *texts)
    return None


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
