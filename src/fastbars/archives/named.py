"""The format of files whose columns a user names: `--columns time=ts,price=px,size=qty`."""

from __future__ import annotations

from collections.abc import Mapping

from fastbars.archives.declaration import Role, TradeFormat
from fastbars.errors import FastbarsError
from fastbars.times import TimeUnit

__all__ = ["COLUMN_ROLES", "named_columns", "named_format"]

COLUMN_ROLES: Mapping[str, Role] = {
    "time": Role.TIME, "price": Role.PRICE, "size": Role.SIZE, "symbol": Role.SYMBOL, "side": Role.SIDE,
    "maker": Role.SIDE, "id": Role.TRADE_ID, "first_id": Role.FIRST_ID, "last_id": Role.LAST_ID, "count": Role.COUNT,
}  # fmt: skip
"""What a column can be named for. "side" says what the taker did, "maker" whether the buyer was the maker."""
_BOUGHT = {"true": 1, "false": -1, "1": 1, "-1": -1, "0": 0, "buy": 1, "sell": -1, "b": 1, "s": -1, "unknown": 0, "": 0}
_MAKER = {"true": -1, "false": 1, "1": -1, "0": 1}
_UNITS: tuple[TimeUnit, ...] = ("s", "ms", "us", "ns")
_NEEDED = ("time", "price", "size")


def named_columns(text: str) -> dict[str, str]:
    """Read "time=ts,price=px,size=qty": the column of each role.

    Raises:
        FastbarsError: it is no such list, or names a role twice or one that there is not.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        role, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column or role in found:
            raise FastbarsError(f"columns {text!r}: {part!r} is not ROLE=COLUMN, each role once")
        found[role] = column
    return found


def named_format(
    columns: Mapping[str, str],
    *,
    time_unit: TimeUnit | None = None,
    price_scale: int | None = None,
    size_scale: int | None = None,
) -> TradeFormat:
    """The format of files with these columns.

    Args:
        columns: the name of a column for each of COLUMN_ROLES that there is; time, price and size are needed. With
            "id", or "first_id" and "last_id", ids are contiguous and prove what is complete.
        time_unit: what integer times count; None: that in which the first one has a plausible date.
        price_scale, size_scale: of Parquet: decimals of integers, 0 by default, and those that floats are rounded to.

    Raises:
        FastbarsError: a role is not known or missing, or two contradict each other.
    """
    unknown = [role for role in columns if role not in COLUMN_ROLES]
    if unknown:
        raise FastbarsError(f"column role {unknown[0]!r} is not one of {', '.join(COLUMN_ROLES)}")
    missing = [role for role in _NEEDED if role not in columns]
    if missing:
        raise FastbarsError(f"no column is named for {', '.join(missing)}: each of {', '.join(_NEEDED)} is needed")
    if "side" in columns and "maker" in columns:
        raise FastbarsError("columns are named for both side and maker: each says what the taker did")
    if ("first_id" in columns) != ("last_id" in columns) or ("id" in columns and "first_id" in columns):
        raise FastbarsError("ids are one column, id, or two, first_id and last_id")
    names: dict[str, Role] = {}
    for role, column in columns.items():
        plain = column.lower().replace("_", "").replace(" ", "")
        if plain in names:
            raise FastbarsError(f"column {column!r} is named for both {names[plain].name.lower()} and {role}")
        names[plain] = COLUMN_ROLES[role]
    numbered = "id" in columns or "first_id" in columns
    return TradeFormat(
        "named columns", "", "aggTrades" if "first_id" in columns else "trades", (), names,
        _UNITS if time_unit is None else (time_unit,), "contiguous" if numbered else "none",
        _MAKER if "maker" in columns else _BOUGHT, "the columns as they were named", price_scale, size_scale,
    )  # fmt: skip
