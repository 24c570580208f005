"""Sinks that talk to servers, each with its real server: killed, restarted, full, misconfigured, written twice."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pytest

import fastbars
from fastbars import BarStatus, OHLCVBar
from fastbars.redaction import without_credentials
from fastbars.simulator import SimulatedExchange
from fastbars.sinks import SinkError, SinkRefused, SinkState, open_sink
from fastbars.sinks.json_rows import record_of_json
from fastbars.sinks.rows import KEY, bar_of, best_of, key_of
from fastbars.sinks.worker import SinkWorker
from fastbars.times import EPOCH
from servers import until
from sink_law import History, history_of_child, judge, rows_of
from sink_servers import (
    PASSWORD,
    USER,
    Certificates,
    ClickhouseServer,
    KafkaServer,
    NatsServer,
    PostgresqlServer,
    RedisServer,
    free_port,
)
from test_sinks import Bars, bar

pytestmark = pytest.mark.real_clock


class Place(Protocol):
    """A fresh store of one test, and how to read it as its users do."""

    @property
    def url(self) -> str:
        """Of the sink."""
        ...

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


# Redis


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.remove()


@dataclass
class RedisPlace:
    server: RedisServer
    prefix: str

    @property
    def url(self) -> str:
        return f"{self.server.url()}?prefix={self.prefix}"

    async def read(self) -> list[dict[str, Any]]:
        from redis.asyncio import Redis

        async with Redis.from_url(self.server.url()) as client:
            rows = []
            async for key in client.scan_iter(match=f"{self.prefix}:*", count=1_000):
                rows += await client.hvals(key)
            return [record_of_json(row) for row in rows]

    async def issued(self) -> list[dict[str, Any]]:
        from redis.asyncio import Redis

        async with Redis.from_url(self.server.url()) as client:
            entries: Any = await client.xrange(self.prefix)
            return [record_of_json(fields[b"row"]) for _, fields in entries]

    async def stop(self) -> None:
        self.server.kill()

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)


async def redis_place(server: RedisServer) -> RedisPlace:
    return RedisPlace(server, f"test_{next(_numbers)}")


# NATS


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    server = NatsServer()
    server.start()
    yield server
    server.remove()


@dataclass
class NatsPlace:
    server: NatsServer
    name: str

    @property
    def url(self) -> str:
        return f"{self.server.url()}?stream={self.name}&subject={self.name}"

    async def read(self) -> list[dict[str, Any]]:
        return best_of(await self.issued())

    async def issued(self) -> list[dict[str, Any]]:
        import nats

        async with await nats.connect(self.server.url()) as client:
            stream = client.jetstream()
            left = (await stream.stream_info(self.name)).state.messages
            taken = await stream.subscribe(f"{self.name}.>", stream=self.name, ordered_consumer=True)
            return [record_of_json((await taken.next_msg(timeout=5.0)).data) for _ in range(left)]

    async def stop(self) -> None:
        self.server.kill()

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)


async def nats_place(server: NatsServer) -> NatsPlace:
    return NatsPlace(server, f"test_{next(_numbers)}")


# Kafka


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    server = KafkaServer()
    server.start()
    yield server
    server.remove()


@dataclass
class KafkaPlace:
    server: KafkaServer
    topic: str

    @property
    def url(self) -> str:
        return self.server.url(self.topic)

    async def read(self) -> list[dict[str, Any]]:
        return best_of(await asyncio.to_thread(self._issued))

    def _issued(self) -> list[dict[str, Any]]:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

        consumer = Consumer(
            {"bootstrap.servers": self.server.brokers, "group.id": "test", "enable.partition.eof": True, "log_level": 0}
        )
        partitions = consumer.list_topics(self.topic, timeout=10).topics[self.topic].partitions
        consumer.assign([TopicPartition(self.topic, each, OFFSET_BEGINNING) for each in partitions])
        ended, records = set[int | None](), list[dict[str, Any]]()
        while len(ended) < len(partitions):
            for message in consumer.consume(1_000, timeout=1.0):
                error = message.error()
                if error is None:
                    records.append(record_of_json(message.value() or b""))
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    ended.add(message.partition())
        consumer.close()
        return records

    async def stop(self) -> None:
        self.server.freeze()  # killed, it would forget what it has: it keeps all in memory

    async def start(self) -> None:
        self.server.thaw()


async def kafka_place(server: KafkaServer) -> KafkaPlace:
    return KafkaPlace(server, f"test_{next(_numbers)}")


# ClickHouse


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[ClickhouseServer]:
    server = ClickhouseServer()
    server.start()
    yield server
    server.remove()


@dataclass
class ClickhousePlace:
    server: ClickhouseServer
    database: str

    @property
    def url(self) -> str:
        return self.server.url(self.database)

    async def read(self) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self.run, "select * from bars")

    def run(self, *statements: str) -> list[dict[str, Any]]:
        import clickhouse_connect

        client = clickhouse_connect.get_client(
            host="127.0.0.1", port=self.server.port, username=USER, password=PASSWORD, database=self.database,
            tz_mode="aware",
        )  # fmt: skip
        try:
            for statement in statements:
                if statement.startswith("select"):
                    return list(client.query(statement).named_results())
                client.command(statement)
            return []
        finally:
            client.close()

    async def stop(self) -> None:
        self.server.kill()

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)


async def clickhouse_place(server: ClickhouseServer) -> ClickhousePlace:
    database = f"test_{next(_numbers)}"
    await asyncio.to_thread(ClickhousePlace(server, "default").run, f"create database {database} engine = Atomic")
    return ClickhousePlace(server, database)


PLACES: dict[str, Callable[[Any], Awaitable[Place]]] = {
    "postgresql": postgresql_place, "redis": redis_place, "nats": nats_place, "kafka": kafka_place,
    "clickhouse": clickhouse_place,
}  # fmt: skip


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    server = request.getfixturevalue(request.param)
    found = await PLACES[request.param](server)
    yield found
    await found.start()


async def test_whatever_the_order_each_bar_is_there_once_and_the_best(place: Place) -> None:
    history = History(1, 300)
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


async def test_our_side_killed_in_the_middle_leaves_every_bar(place: Place, tmp_path: Path) -> None:
    expected = await _kill_a_writer(place.url, 200, tmp_path)
    judge(await place.read(), expected)


@pytest.mark.parametrize("scheme", ["parquet", "duckdb", "jsonl"])
async def test_our_side_killed_in_the_middle_leaves_every_bar_in_files(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:{tmp_path / 'kept'}"
    expected = await _kill_a_writer(url, 100, tmp_path)
    found = fastbars.read(url)
    assert len(found) == len(expected)
    assert {(key_of(bar), bar) for bar in found} == {(key_of(bar), bar) for bar in map(bar_of, expected)}


async def _kill_a_writer(url: str, bars: int, folder: Path) -> list[dict[str, Any]]:
    # Returns what must be there. The second child goes on from what the first one's log says was confirmed.
    log = folder / "log"
    for is_killed in (True, False):
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("sink_law.py")), url, str(bars), str(log),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        assert await child.stdout.readline() == b"open\n"
        if is_killed:
            await until(lambda: log.exists() and log.stat().st_size > 3)
            child.kill()
            assert await child.wait() < 0
        else:
            assert await child.stdout.readline() == b"done\n"
            assert await child.wait() == 0
    return history_of_child(bars)[0].best()


def sql_of_page(section: str) -> list[str]:
    """The SQL of a section of the page on databases, as it stands there."""
    page = (Path(__file__).parents[1] / "docs" / "databases.md").read_text(encoding="utf-8")
    found = re.findall(r"```sql\n(.*?)```", page.partition(f"\n## {section}\n")[2].partition("\n## ")[0], re.DOTALL)
    assert found
    return found


async def keep_what_the_page_asks_for(url: str) -> None:
    sink = open_sink(url)
    await sink.open()
    day = timedelta(days=19_943, hours=5)
    minutes = [
        bar(n, open_time=EPOCH + day + timedelta(minutes=n), close_time=EPOCH + day + timedelta(minutes=n + 1),
            quote_volume=Decimal("24691357802469135780246913578.246913578"))
        for n in range(3)
    ]  # fmt: skip
    parts = [
        bar(n, spec="volume:50@1d", index=n, open_time=EPOCH + day + timedelta(seconds=n),
            close_time=EPOCH + day + timedelta(seconds=n + 1))
        for n in range(3)
    ]  # fmt: skip
    gap, gone = replace(minutes[1], status=BarStatus.GAP), replace(parts[2], status=BarStatus.RETRACTED, revision=1)
    await sink.write(rows_of([minutes[0], gap, minutes[2], *parts, gone], "host-a"))
    await sink.write(rows_of([minutes[1]], "host-b"))
    await sink.close()


async def test_the_sql_of_the_page_runs_on_postgresql(postgresql: PostgresqlServer) -> None:
    place = await postgresql_place(postgresql)
    await keep_what_the_page_asks_for(place.url)
    day, anchored, trust, sources = [[dict(row) for row in await place.run(sql)] for sql in sql_of_page("PostgreSQL")]
    assert [(row["status"], row["vwap"]) for row in day] == [("COMPLETE", Decimal(2))] * 3
    assert [row["index"] for row in anchored] == [0, 1]  # and not the one that was retracted
    assert [(row["spec"], row["status"], row["bars"]) for row in trust] == [
        ("1m", "COMPLETE", 3), ("volume:50@1d", "COMPLETE", 2),
    ]  # fmt: skip
    assert [(row["source"], row["status"], row["bars"], row["highest_revision"]) for row in sources] == [
        ("host-a", "COMPLETE", 4, 0), ("host-a", "GAP", 1, 0), ("host-a", "RETRACTED", 1, 1),
        ("host-b", "COMPLETE", 1, 0),
    ]  # fmt: skip


async def test_the_sql_of_the_page_runs_on_clickhouse(clickhouse: ClickhouseServer) -> None:
    place = await clickhouse_place(clickhouse)
    await keep_what_the_page_asks_for(place.url)
    day, trust = [await asyncio.to_thread(place.run, sql) for sql in sql_of_page("ClickHouse")]
    assert [(row["status"], row["vwap"]) for row in day] == [("COMPLETE", 2.0)] * 3
    assert [(row["spec"], row["status"], row["bars"]) for row in trust] == [
        ("1m", "COMPLETE", 3), ("volume:50@1d", "COMPLETE", 2),
    ]  # fmt: skip


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


async def test_a_stream_keeps_every_bar_in_each_server_while_they_are_killed_by_turns(
    request: pytest.FixtureRequest,
) -> None:
    places = {name: await make(request.getfixturevalue(name)) for name, make in PLACES.items()}
    taken: list[OHLCVBar] = []
    async with SimulatedExchange("binance", symbols=5, rate=2_000, seed=1) as server:
        async with fastbars.stream(
            "binance", server.symbols, "1s", url=server.url, source="host-a",
            sinks={"function": taken.extend, **{name: place.url for name, place in places.items()}},
        ) as bars:  # fmt: skip
            for name in ("redis", "postgresql", "nats"):
                await places[name].stop()
                await until(lambda name=name: bars.stats().sinks[name].state is SinkState.DOWN)  # type: ignore[misc]
                await places[name].start()
            await until(lambda: all(stats.confirmed for stats in bars.stats().sinks.values()))
            stopped = bars.stats().sinks
        stats = bars.stats().sinks
    assert all(stopped[name].failures for name in ("redis", "postgresql", "nats"))
    assert {name: (each.waiting, each.confirmed) for name, each in stats.items()} == dict.fromkeys(
        stats, (0, len(taken))
    )
    assert len(taken) >= 15
    best = {key_of(one): one for one in taken}  # a later one of a bar is a higher revision
    for name, place in places.items():
        assert {key_of(one): one for one in map(bar_of, await place.read())} == best, name


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


async def test_redis_refuses_what_never_works(redis: RedisServer) -> None:
    place = await redis_place(redis)
    assert "invalid username-password pair" in await refusal_of(redis.url(password="wrong-" + PASSWORD))
    assert "authenticate" in await refusal_of(f"redis://127.0.0.1:{redis.port}/0")
    assert "DB index is out of range" in await refusal_of(redis.url("/99"))
    assert "nosuch" in await refusal_of(redis.url("/0?nosuch=1"))
    assert "maxlen='-1' must be a number" in await refusal_of(redis.url("/0?maxlen=-1"))
    from redis.asyncio import Redis

    async with Redis.from_url(redis.url()) as client:
        await client.set(place.prefix, "mine")
        assert f"key {place.prefix} is a string, not a stream" in await refusal_of(place.url)
        await client.delete(place.prefix)
        sink = open_sink(place.url + "&keep_days=2")
        await sink.open()
        await client.set(f"{place.prefix}:binance:spot:BTCUSDT:1970-01-01:1m", "mine")
        with pytest.raises(SinkRefused, match="WRONGTYPE"):
            await sink.write(rows_of([bar(1)], "host-a"))
        await client.delete(f"{place.prefix}:binance:spot:BTCUSDT:1970-01-01:1m")
        await sink.write(rows_of([bar(1)], "host-a"))
        assert 0 < await client.ttl(f"{place.prefix}:binance:spot:BTCUSDT:1970-01-01:1m") <= 2 * 86_400
        await sink.close()


async def test_the_stream_of_redis_has_each_revision_once_and_is_cut(redis: RedisServer) -> None:
    place = await redis_place(redis)
    sink = open_sink(place.url + "&maxlen=1000")
    await sink.open()
    issued = [bar(number) for number in range(300)]
    for _ in range(3):
        await sink.write(rows_of(issued, "host-a"))
    assert [record["open_time"] for record in await place.issued()] == [one.open_time for one in issued]
    for revision in range(1, 10):
        await sink.write(rows_of([bar(number, revision=revision) for number in range(300)], "host-a"))
    await sink.close()
    assert 1_000 <= len(await place.issued()) < 1_300
    assert {record["revision"] for record in await place.read()} == {9}


async def test_nats_refuses_what_never_works(nats: NatsServer, tmp_path: Path) -> None:
    place = await nats_place(nats)
    assert "authorization" in (await refusal_of(nats.url(password="wrong-" + PASSWORD))).lower()
    assert "authorization" in (await refusal_of(f"nats://127.0.0.1:{nats.port}")).lower()
    assert "only stream, subject" in await refusal_of(nats.url() + "?nosuch=1")
    assert "no such file" in await refusal_of(f"{place.url}&ca={tmp_path / 'nosuch'}")
    await _open_and_close(place.url)
    assert f"takes ['{place.name}.>'], not other.>" in await refusal_of(
        f"{nats.url()}?stream={place.name}&subject=other"
    )
    assert "overlap" in await refusal_of(f"{nats.url()}?stream=ANOTHER&subject={place.name}")


async def test_nats_knows_messages_again(nats: NatsServer) -> None:
    place = await nats_place(nats)
    sink = open_sink(place.url)
    await sink.open()
    issued = [bar(number) for number in range(30)]
    for source in ("host-a", "host-a", "host-b"):
        await sink.write(rows_of(issued, source))
    await sink.write(rows_of([bar(3, revision=1)], "host-a"))
    await sink.close()
    assert len(await place.issued()) == 30 + 30 + 1


async def test_kafka_refuses_what_never_works(kafka: KafkaServer) -> None:
    assert 'No such configuration property: "nosuch"' in await refusal_of(kafka.url() + "&nosuch=1")
    assert "acks cannot be given" in await refusal_of(kafka.url() + "&acks=0")
    assert "topic='a/b' must be" in await refusal_of(kafka.url("a/b"))
    assert "socket.timeout.ms='x' must be" in await refusal_of("kafka://127.0.0.1/bars?socket.timeout.ms=x")
    assert "names no server" in await refusal_of("kafka:///bars")


async def test_kafka_keeps_the_bars_of_a_series_in_order(kafka: KafkaServer) -> None:
    place = await kafka_place(kafka)
    sink = open_sink(place.url)
    await sink.open()
    for at in range(0, 300, 100):
        symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
        await sink.write(rows_of([bar(n, symbol=symbols[n % 3]) for n in range(at, at + 100)], "host-a"))
        await sink.flush()
    await sink.close()
    found: dict[str, list[Any]] = {}
    for record in await asyncio.to_thread(place._issued):
        found.setdefault(record["symbol"], []).append(record["open_time"])
    assert sorted(map(len, found.values())) == [100, 100, 100]
    assert all(times == sorted(times) for times in found.values())


async def test_clickhouse_refuses_what_never_works(clickhouse: ClickhouseServer) -> None:
    place = await clickhouse_place(clickhouse)
    assert "Authentication failed" in await refusal_of(clickhouse.url(password="wrong-" + PASSWORD))
    assert "nosuch" in await refusal_of(clickhouse.url("nosuch"))
    assert "no such option: nosuch" in await refusal_of(place.url + "?nosuch=1")
    assert "one server can be given" in await refusal_of("clickhouse://a,b/x")
    await _open_and_close(place.url + "?table=other")
    for change, message in [
        ("alter table other_by_source drop column volume", "has no column volume"),
        ("alter table other_by_source add column volume Float64", "column volume .* is Float64, not Decimal.76, 18."),
        ("drop table other_by_source", ""),
        (
            "create table other_by_source engine = MergeTree order by symbol as select * from bars_by_source",
            "MergeTree",
        ),
    ]:
        if not message:
            await _open_and_close(place.url)
        await asyncio.to_thread(place.run, change)
        if message:
            with pytest.raises(SinkRefused, match=message):
                await _open_and_close(place.url + "?table=other")


async def test_clickhouse_takes_no_decimal_that_it_would_round(clickhouse: ClickhouseServer) -> None:
    place = await clickhouse_place(clickhouse)
    sink = open_sink(place.url)
    await sink.open()
    for change, message in [
        ({"low": Decimal("1E-19")}, r"binance BTCUSDT 1m 1970-01-01 00:01:00: low 0\.0000000000000000001 does not fit"),
        ({"volume": Decimal("1E+58")}, r"volume 10+ does not fit Decimal\(76, 18\)"),
        ({"quote_volume": Decimal("1E-37")}, r"quote_volume .* does not fit Decimal\(76, 36\)"),
    ]:
        with pytest.raises(SinkRefused, match=message):
            await sink.write(rows_of([bar(0), bar(1, **change)], "host-a"))
    await sink.close()
    assert await place.read() == []


@pytest.fixture
def nats_over_tls() -> Iterator[NatsServer]:
    server = NatsServer(is_secure=True)
    server.start()
    yield server
    server.remove()


async def test_over_tls_and_never_without(
    postgresql: PostgresqlServer, redis: RedisServer, nats: NatsServer, nats_over_tls: NatsServer, tmp_path: Path
) -> None:
    stranger = Certificates(tmp_path).ca
    with_options: dict[PostgresqlServer | RedisServer | NatsServer, str] = {
        postgresql: postgresql.url() + "?sslmode=verify-full&sslrootcert=",
        redis: f"rediss://:{PASSWORD}@127.0.0.1:{redis.tls_port}/0?ssl_ca_certs=",
        nats_over_tls: nats_over_tls.url().replace("nats:", "tls:") + "?ca=",
    }
    for server, url in with_options.items():
        sink = open_sink(url + server.certificates.ca)
        await sink.open()
        await sink.write(rows_of([bar(1)], "host-a"))
        await sink.flush()
        await sink.close()
        assert "certificate verify failed" in await refusal_of(url + stranger)
    # A server without TLS, which may be anybody between, is given no password.
    for login in (f"{USER}:{PASSWORD}@", "a-token@"):
        plain = await refusal_of(f"tls://{login}127.0.0.1:{nats.port}")
        assert plain == f"tls://127.0.0.1:{nats.port}: the server offers no TLS"


async def test_no_password_goes_to_a_server_of_nats_that_offers_no_tls() -> None:
    said = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.9.10","auth_required":true,"max_payload":1048576}\r\n')
        said.extend(await reader.read(10_000))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "offers no TLS" in await refusal_of(f"tls://{USER}:{PASSWORD}@127.0.0.1:{port}")
    assert PASSWORD.encode() not in said


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


@pytest.mark.parametrize("scheme", ["postgresql", "redis", "nats", "kafka", "clickhouse"])
async def test_a_server_that_is_not_there_is_down_and_not_refused(scheme: str) -> None:
    login = "" if scheme == "kafka" else f"user:{PASSWORD}@"
    query = "?socket.timeout.ms=500" if scheme == "kafka" else ""
    sink = open_sink(f"{scheme}://{login}127.0.0.1:{free_port()}{'/0' if scheme == 'redis' else ''}{query}")
    with pytest.raises(SinkError) as caught:
        await sink.open()
    assert not isinstance(caught.value, SinkRefused)
    assert PASSWORD not in str(caught.value)
    with pytest.raises(SinkError):
        await sink.write(rows_of([bar(1)], "host-a"))
    await sink.close()


@pytest.mark.parametrize("scheme", ["postgresql", "clickhouse", "clickhouses", "redis", "rediss", "nats", "kafka"])
def test_a_url_in_a_text_shows_no_password(scheme: str) -> None:
    text = without_credentials(f"cannot connect to {scheme}://me:abc@host:1/x?sslpassword=d&y=1: refused")
    assert text == f"cannot connect to {scheme}://***@host:1/x?sslpassword=***&y=1: refused"
