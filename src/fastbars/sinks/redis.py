"""`redis://:PASSWORD@HOST:PORT/DATABASE`: a stream of what is issued, and hashes with the best row of each bar.

One script of Redis takes a batch of rows: a row is added to the stream, and to the hashes, only where its source has
no row of that bar of the same or a higher revision; so what is written twice is there once. Rows are JSON.

    stream  PREFIX                                           field `row`: as issued, of every source
    hash    PREFIX:EXCHANGE:MARKET:SYMBOL:DATE:SPEC          field BEGINS/NUMBER: the best row of that bar
    hash    PREFIX.hidden:EXCHANGE:MARKET:SYMBOL:DATE:SPEC   the same field: rows that are not the best, by source
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson
import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fastbars.bars import BarStatus
from fastbars.redaction import without_credentials
from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.json_rows import json_of
from fastbars.sinks.rows import COLUMNS, KEY, Rows
from fastbars.sinks.urls import checked_name, is_untrusted, number_of_option, shown_url, split_options
from fastbars.ticks import to_nanoseconds

__all__ = ["RedisSink"]

CONNECT_S = 10.0
ANSWER_S = 60.0
ROWS_OF_A_CALL = 200  # a script holds every other client up: for about 5 ms

_PLACES = {column.name: place for place, column in enumerate(COLUMNS)}
_SERIES = tuple(_PLACES[name] for name in ("exchange", "market", "symbol"))
_BEGINS, _NUMBER, _SPEC = (_PLACES[name] for name in ("begins", "number", "spec"))
_MERIT = tuple(_PLACES[name] for name in ("source", "revision", "rank", "trade_count"))
_STATUS = _PLACES["status"]
assert {*_SERIES, _BEGINS, _NUMBER, _SPEC} == {_PLACES[name] for name in KEY}

_REFUSED = ("WRONGTYPE", "NOPERM", "MOVED", "DB index", "unknown command", "invalid username", "NOAUTH", "WRONGPASS")

# A row in it is {source, revision, rank, count, shown, row}. Lua compares texts by the locale of the server, so
# sources are compared byte by byte. ARGV: length of the stream, seconds to keep, and the rows as one text of JSON, as a
# thousand arguments cost the client more than all the rest.
_SCRIPT = """
local function before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x < y end
  end
  return #a < #b
end
local function better(a, b)
  if a[3] ~= b[3] then return a[3] < b[3] end
  if a[4] ~= b[4] then return a[4] > b[4] end
  return before(a[1], b[1])
end
local most, keep_s, added = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
for _, given in ipairs(cjson.decode(ARGV[3])) do
  local shown_key, hidden_key, field = KEYS[given[1]], KEYS[given[1] + 1], given[2]
  local new = {unpack(given, 3, 8)}
  local rows = {}
  local shown = redis.call('HGET', shown_key, field)
  if shown then
    local row = cjson.decode(shown)
    rows[1] = {row.source, row.revision, row.rank, tonumber(row.trade_count) or 0, true, shown}
  end
  local hidden = redis.call('HGET', hidden_key, field)
  if hidden then
    for _, row in ipairs(cjson.decode(hidden)) do rows[#rows + 1] = row end
  end
  local is_new = true
  for i = 1, #rows do
    if rows[i][1] == new[1] then
      is_new = rows[i][2] < new[2]
      if is_new then table.remove(rows, i) end
      break
    end
  end
  if is_new then
    local best = new
    for _, row in ipairs(rows) do if better(row, best) then best = row end end
    rows[#rows + 1] = new
    local others = {}
    for _, row in ipairs(rows) do if row ~= best or not best[5] then others[#others + 1] = row end end
    if best[5] then
      redis.call('HSET', shown_key, field, best[6])
    elseif shown then
      redis.call('HDEL', shown_key, field)
    end
    if #others > 0 then
      redis.call('HSET', hidden_key, field, cjson.encode(others))
    elseif hidden then
      redis.call('HDEL', hidden_key, field)
    end
    if keep_s > 0 then
      redis.call('EXPIRE', shown_key, keep_s)
      redis.call('EXPIRE', hidden_key, keep_s)
    end
    if most > 0 then
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', most, '*', 'row', new[6])
    else
      redis.call('XADD', KEYS[1], '*', 'row', new[6])
    end
    added = added + 1
  end
end
return added
"""


class RedisSink:
    """Keeps bars in Redis (5 or later; no cluster). A confirmed bar is as safe as its `appendfsync` makes it.

    Args:
        url: as redis-py takes it (`rediss://` for TLS, `ssl_ca_certs` and others in its query), and `prefix=NAME` of
            keys, "bars" if not given; `maxlen=N`, about which length the stream is cut to (100,000; 0: never);
            `keep_days=N`, after which the hash of a day is removed (0: never).

    Raises:
        SinkRefused: the URL is malformed.
    """

    def __init__(self, url: str) -> None:
        self._url, options = split_options(url, {"prefix": "bars", "maxlen": "100000", "keep_days": "0"})
        self._prefix = checked_name(url, "prefix", options["prefix"])
        self._most = int(number_of_option(url, "maxlen", options["maxlen"], 0, 10**12))
        self._keep_s = int(number_of_option(url, "keep_days", options["keep_days"], 0, 100_000) * 86_400)
        self.name = shown_url(url)
        self._client: redis.asyncio.Redis | None = None

    async def open(self) -> None:
        """Connect. Raises SinkError, SinkRefused: for one, there is something else by the name of the stream."""
        await self.close()
        try:
            self._client = client = redis.asyncio.Redis.from_url(
                self._url, socket_connect_timeout=CONNECT_S, socket_timeout=ANSWER_S, retry=Retry(NoBackoff(), 0)
            )
            kind = await client.type(self._prefix)
        except (ValueError, TypeError) as error:
            raise SinkRefused(f"{self.name}: {_text(error)}") from None
        except (exceptions.RedisError, OSError, TimeoutError) as error:
            raise self._failure(error) from None
        name = kind.decode() if isinstance(kind, bytes) else kind
        if name not in ("none", "stream"):
            raise SinkRefused(f"{self.name}: key {self._prefix} is a {name}, not a stream")

    async def write(self, rows: Rows) -> None:
        """Write the rows. Raises SinkError."""
        if self._client is None:
            raise SinkError(f"{self.name}: not connected")
        script = self._client.register_script(_SCRIPT)
        try:
            for at in range(0, len(rows), ROWS_OF_A_CALL):
                await script(*self._call(rows.records[at : at + ROWS_OF_A_CALL]))
        except (exceptions.RedisError, OSError, TimeoutError) as error:
            raise self._failure(error) from None

    async def flush(self) -> None:
        """Redis has answered, behind its own writing."""

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            try:
                await client.aclose()
            except (exceptions.RedisError, OSError, TimeoutError):
                return

    def _call(self, records: list[tuple[Any, ...]]) -> tuple[list[str], list[Any]]:
        # Keys and arguments of a call of the script.
        keys, places, rows = [self._prefix], dict[str, int](), list[Any]()
        for record in records:
            series = ":".join(quote(record[place], safe="-_.~ /@+") for place in _SERIES)
            own = f":{series}:{record[_BEGINS]:%Y-%m-%d}:{record[_SPEC]}"
            place = places.get(own)
            if place is None:
                place = places[own] = len(keys) + 1
                keys += (self._prefix + own, f"{self._prefix}.hidden{own}")
            field = f"{to_nanoseconds(record[_BEGINS])}/{record[_NUMBER]}"
            source, revision, rank, count = (record[place] for place in _MERIT)
            is_shown = record[_STATUS] != BarStatus.RETRACTED
            rows.append((place, field, source, revision, rank, count or 0, is_shown, json_of(record).decode()))
        return keys, [self._most, self._keep_s, orjson.dumps(rows)]

    def _failure(self, error: Exception) -> SinkError:
        text = f"{self.name}: {_text(error)}"
        is_refusal = (isinstance(error, exceptions.AuthenticationError) or is_untrusted(error)) or (
            isinstance(error, exceptions.ResponseError) and any(word in str(error) for word in _REFUSED)
        )
        return SinkRefused(text) if is_refusal else SinkError(text)


def _text(error: BaseException) -> str:
    return without_credentials(str(error) or type(error).__name__)
