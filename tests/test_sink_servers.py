"""Sinks that talk to servers, each with its real server: killed, restarted, full, misconfigured, written twice."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pytest

from fastbars import OHLCVBar
from fastbars.redaction import without_credentials
from fastbars.sinks import SinkError, SinkRefused, SinkState, open_sink
from fastbars.sinks.rows import KEY
from fastbars.sinks.worker import SinkWorker
from servers import until
from sink_law import History, judge, rows_of
from sink_servers import PASSWORD, PostgresqlServer, free_port
from test_sinks import Bars, bar

pytestmark = pytest.mark.real_clock


class Place(Protocol):
    """A fresh store of one test, and how to read it as its users do."""

    url: str

    async def read(self) -> list[dict[str, Any]]:
        """What users see: the best row of each bar, by the names of COLUMNS."""

    async def stop(self) -> None:
        """Kill the server, and return when it is gone."""

    async def start(self) -> None:
        """Start it again, with its data."""


# PostgreSQL


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer()
    server.start()
    yield server
    server.remove()


@dataclass
class PostgresqlPlace:
    server: PostgresqlServer
    url: str

    async def read(self) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.run("select * from bars")]

    async def run(self, *statements: str) -> list[Any]:
        import asyncpg

        connection = await asyncpg.connect(self.url)
        try:
            for statement in statements:
                found = await connection.fetch(statement)
            return list(found)
        finally:
            await connection.close()

    async def stop(self) -> None:
        self.server.kill()

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)


_numbers = iter(range(10**6))


async def postgresql_place(server: PostgresqlServer) -> PostgresqlPlace:
    database = f"test_{next(_numbers)}"
    await PostgresqlPlace(server, server.url()).run(f"create database {database}")
    return PostgresqlPlace(server, server.url(database))


PLACES = {"postgresql": postgresql_place}


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    server = request.getfixturevalue(request.param)
    yield await PLACES[request.param](server)
    server.start()


async def test_whatever_the_order_each_bar_is_there_once_and_the_best(place: Place) -> None:
    history = History(1, 700)
    sink = open_sink(place.url)
    await sink.open()
    for batch in history.batches():
        await sink.write(batch)
        await sink.flush()
    await sink.write(rows_of([], "host-a"))  # and an empty one
    await sink.flush()
    judge(await place.read(), history.best())
    await sink.open()  # once more, over what is there
    await sink.close()
    await sink.close()
    assert PASSWORD not in sink.name


async def test_a_server_that_is_killed_and_comes_back_has_every_bar(place: Place) -> None:
    history = History(2, 200, ["host-a"])
    issued = history.by_source["host-a"]
    bars, paused = Bars(), list[bool]()
    worker = SinkWorker("main", open_sink(place.url), "host-a", batch_bars=50, batch_s=0.01)
    worker.add(bars, paused.append, 100)
    await worker.open()
    bars.issue(*issued[:60])
    await until(lambda: worker.stats().waiting == 0, timeout_s=20.0)
    writing = asyncio.create_task(_issue_slowly(bars, issued[60:150]))
    await asyncio.sleep(0.02)
    await place.stop()
    await writing
    await until(lambda: worker.stats().state is SinkState.DOWN, timeout_s=20.0)
    bars.issue(*issued[150:])
    assert paused[-1:] == [True]  # more than 100 wait
    stats = worker.stats()
    assert PASSWORD not in stats.error
    assert stats.waiting > 100
    await place.start()
    await until(lambda: worker.stats().waiting == 0, timeout_s=40.0)
    assert paused[-1:] == [False]
    await worker.stop()
    expected = history.best()
    read = await place.read()
    issued_times = {tuple(record[name] for name in KEY): record["issued_time"] for record in read}
    for record in expected:  # the worker's clock
        record["issued_time"] = issued_times.get(tuple(record[name] for name in KEY))
    judge(read, expected)


async def _issue_slowly(bars: Bars, issued: list[OHLCVBar]) -> None:
    for one in issued:
        bars.issue(one)
        await asyncio.sleep(0.001)


async def test_our_side_killed_again_and_again_leaves_every_bar(place: Place, tmp_path: Path) -> None:
    history = History(3, 3_000)
    log = tmp_path / "log"
    for life in range(3):
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("sink_law.py")), place.url, "3", str(log),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        assert await child.stdout.readline() == b"open\n"
        if life < 2:
            grown = log.stat().st_size if log.exists() else 0
            await until(lambda grown=grown: log.exists() and log.stat().st_size > grown + 3, timeout_s=20.0)  # type: ignore[misc]
            child.kill()
            assert await child.wait() < 0
        else:
            assert await child.stdout.readline() == b"done\n"
            assert await child.wait() == 0
    judge(await place.read(), history.best())


async def refusal_of(url: str) -> str:
    """The text of the refusal of a sink that is opened."""
    with pytest.raises(SinkRefused) as caught:
        await _open_and_close(url)
    text = str(caught.value)
    assert PASSWORD not in text
    assert PASSWORD not in repr(caught.value.__cause__)
    return text


async def _open_and_close(url: str) -> None:
    sink = open_sink(url)
    try:
        await sink.open()
    finally:
        await sink.close()


async def test_postgresql_refuses_what_never_works(postgresql: PostgresqlServer) -> None:
    place = await postgresql_place(postgresql)
    assert "password authentication failed" in await refusal_of(postgresql.url(password="wrong-" + PASSWORD))
    assert 'database "nosuch" does not exist' in await refusal_of(postgresql.url("nosuch"))
    assert "table='a b' must be letters" in await refusal_of(place.url + "?table=a%20b".replace("%20", " "))
    assert "table is given twice" in await refusal_of(place.url + "?table=a&table=b")
    assert "sslmode" in await refusal_of(place.url + "?sslmode=perhaps")
    await _open_and_close(place.url + "?table=other")
    for change, message in [
        ("alter table other_by_source drop column volume cascade", "has no column volume"),
        ("alter table other_by_source add volume numeric(10, 2)", r"column volume of table other_by_source is numeric"),
        ("alter table other_by_source alter volume type numeric, add extra text not null", "column extra .* not ours"),
        ("alter table other_by_source drop extra, alter index set not null", "column index .* takes no null"),
        ("alter table other_by_source alter index drop not null, drop constraint other_by_source_pkey", "unique index"),
    ]:
        await place.run(change)
        with pytest.raises(SinkRefused, match=message):
            await _open_and_close(place.url + "?table=other")
    await place.run("create role reader login password 'reader-word'")
    reader = postgresql.url(place.url.rpartition("/")[2], "reader", "reader-word")
    assert "permission denied" in await refusal_of(reader)


async def test_two_that_make_the_table_at_once(postgresql: PostgresqlServer) -> None:
    place = await postgresql_place(postgresql)
    await asyncio.gather(*(_open_and_close(place.url) for _ in range(5)))
    assert await place.read() == []


async def test_postgresql_needs_no_right_to_create_where_the_table_is(postgresql: PostgresqlServer) -> None:
    place = await postgresql_place(postgresql)
    await _open_and_close(place.url)
    await place.run(
        "create role writer login password 'writer-word'", "grant select, insert, update on bars_by_source to writer"
    )
    sink = open_sink(postgresql.url(place.url.rpartition("/")[2], "writer", "writer-word"))
    await sink.open()
    await sink.write(rows_of([bar(1)], "host-a"))
    await sink.close()
    (record,) = await place.read()
    assert record["volume"] == Decimal("12345678901234567890123456789.123456789")


async def test_a_server_that_is_not_there_is_down_and_not_refused() -> None:
    sink = open_sink(f"postgresql://user:{PASSWORD}@127.0.0.1:{free_port()}/x")
    with pytest.raises(SinkError) as caught:
        await sink.open()
    assert not isinstance(caught.value, SinkRefused)
    with pytest.raises(SinkError, match="not connected"):
        await sink.write(rows_of([bar(1)], "host-a"))


@pytest.mark.parametrize("scheme", ["postgresql", "clickhouse", "clickhouses", "redis", "rediss", "nats", "kafka"])
def test_a_url_in_a_text_shows_no_password(scheme: str) -> None:
    text = without_credentials(f"cannot connect to {scheme}://me:abc@host:1/x?sslpassword=d&y=1: refused")
    assert text == f"cannot connect to {scheme}://***@host:1/x?sslpassword=***&y=1: refused"
