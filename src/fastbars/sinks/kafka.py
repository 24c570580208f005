"""`kafka://USER:PASSWORD@HOST:PORT,HOST:PORT/TOPIC`: a message a row, by an idempotent producer.

    key        bar and source as JSON: a compacted topic keeps the latest row of each source
    partition  by exchange, market, symbol and spec: the bars of a series stay in order
    value      the row as JSON

A batch is confirmed when every replica in sync has it. A topic is a log: readers take the best row of each bar
(`fastbars.sinks.rows.best_of`).
"""

from __future__ import annotations

from collections import deque
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zlib import crc32

import orjson
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from fastbars.redaction import keep_secret, without_credentials
from fastbars.sinks.declaration import SinkError, SinkRefused
from fastbars.sinks.json_rows import json_of
from fastbars.sinks.rows import COLUMNS, KEY, Rows
from fastbars.sinks.threads import OneThread
from fastbars.sinks.urls import checked_name, host_names, login_of, number_of_option, shown_url, split_options
from fastbars.ticks import to_nanoseconds

__all__ = ["KafkaSink"]

_DEFAULTS = {
    "client.id": "fastbars", "linger.ms": "5", "compression.type": "lz4", "log_level": "2",
    "message.timeout.ms": "30000", "socket.timeout.ms": "10000",
    "queue.buffering.max.messages": "100000", "queue.buffering.max.kbytes": "32768",
}  # fmt: skip
_MOST_ERRORS = 100

_PLACES = {column.name: place for place, column in enumerate(COLUMNS)}
_SERIES = tuple(_PLACES[name] for name in ("exchange", "market", "symbol", "spec"))
_IDENTITY = tuple(_PLACES[name] for name in (*KEY, "source"))
_BEGINS = _PLACES["begins"]
_REFUSED = {
    KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.UNSUPPORTED_SASL_MECHANISM, KafkaError.TOPIC_EXCEPTION,
    KafkaError._SSL, KafkaError.POLICY_VIOLATION,
}  # fmt: skip
# Ours, because the law of the sink rests on them.
_FIXED = ("bootstrap.servers", "enable.idempotence", "acks", "sasl.username", "sasl.password")


class KafkaSink:
    """Keeps bars in a topic of Kafka, or of what speaks its protocol.

    Args:
        url: the servers and the topic; a user makes it SASL over TLS. In its query: `partitions=N` of a topic that is
            made here (6), and any option of librdkafka (`security.protocol`, `ssl.ca.location`, `compression.type`).

    Raises:
        SinkRefused: the URL is malformed, or librdkafka has no such option.
    """

    def __init__(self, url: str) -> None:
        rest, options = split_options(url, {"partitions": "6"})
        self._partitions = int(number_of_option(url, "partitions", options["partitions"], 1, 10_000))
        self._topic = checked_name(url, "topic", urlsplit(rest).path.strip("/") or "bars")
        user, password = login_of(url)
        self._config: dict[str, Any] = dict(_DEFAULTS)
        if user:
            self._config |= {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}
        for name, value in parse_qsl(urlsplit(rest).query):
            if name in _FIXED:
                raise SinkRefused(f"{shown_url(url)}: {name} cannot be given")
            if "password" in name:
                keep_secret(value)
            self._config[name] = value
        self._answer_s, self._delivered_s = (
            number_of_option(url, name, self._config[name], 100, 3_600_000) / 1_000
            for name in ("socket.timeout.ms", "message.timeout.ms")
        )
        self._config |= {"bootstrap.servers": ",".join(host_names(url, 9092)), "enable.idempotence": True}
        if user:
            self._config |= {"sasl.username": user, "sasl.password": password}
        self.name = shown_url(url)
        self._thread = OneThread("fastbars kafka")
        self._producer: Producer | None = None
        self._found_partitions = 0
        self._errors = deque[KafkaError](maxlen=_MOST_ERRORS)
        self._failed: KafkaError | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Connect, and make the topic where it is missing. Raises SinkError, SinkRefused."""
        self._is_closed = False
        await self._thread.run(self._open)

    async def write(self, rows: Rows) -> None:
        """Give the rows to the producer. Raises SinkError."""
        await self._thread.run(self._write, rows)

    async def flush(self) -> None:
        """Wait until all replicas in sync have them. Raises SinkError."""
        await self._thread.run(self._flush)

    async def close(self) -> None:
        """Disconnect; what was not flushed is not sent any more."""
        if not self._is_closed:
            self._is_closed = True
            await self._thread.run(self._drop)
            self._thread.end()

    def _open(self) -> None:
        self._drop()
        self._errors.clear()
        try:
            self._producer = Producer(self._config, error_cb=self._errors.append)
        except (KafkaException, ValueError, TypeError) as error:
            raise SinkRefused(f"{self.name}: {_text(error)}") from None
        try:
            self._found_partitions = self._count_partitions(self._producer)
        except KafkaException as error:
            failure = self._failure(error)
            self._drop()
            raise failure from None

    def _count_partitions(self, producer: Producer) -> int:
        for is_made in (False, True):
            topic = producer.list_topics(self._topic, timeout=self._answer_s).topics[self._topic]
            if topic.error is None:
                return len(topic.partitions)
            if is_made or topic.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise KafkaException(topic.error)
            new = NewTopic(self._topic, self._partitions, config={"cleanup.policy": "compact"})
            try:
                AdminClient(self._config).create_topics([new], operation_timeout=self._answer_s)[self._topic].result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # by another host, meanwhile
                    raise
        raise AssertionError

    def _write(self, rows: Rows) -> None:
        producer = self._producer
        if producer is None:
            raise SinkError(f"{self.name}: not connected")
        try:
            for record in rows.records:
                series = "\0".join([record[place] for place in _SERIES])
                while True:
                    try:
                        producer.produce(
                            self._topic, json_of(record), key_of_message(record),
                            partition=crc32(series.encode()) % self._found_partitions, on_delivery=self._note_delivery,
                        )  # fmt: skip
                        break
                    except BufferError:
                        producer.poll(0.1)
                        self._raise_errors()
        except KafkaException as error:
            raise self._failure(error) from None

    def _flush(self) -> None:
        producer = self._producer
        if producer is None:
            raise SinkError(f"{self.name}: not connected")
        most_s = self._delivered_s + self._answer_s
        left = producer.flush(most_s)
        self._raise_errors()
        if left:
            raise SinkError(f"{self.name}: {left} messages are not delivered within {most_s:g} s")

    def _note_delivery(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._errors.append(error)
            self._failed = error

    def _raise_errors(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise self._failure(KafkaException(failed))

    def _drop(self) -> None:
        producer, self._producer, self._failed = self._producer, None, None
        if producer is not None:
            producer.purge()
            producer.flush(0.1)

    def _failure(self, error: KafkaException) -> SinkError:
        # Why a server does not answer is in what the producer reported meanwhile.
        reported: KafkaError = next((each for each in self._errors if each.code() in _REFUSED), error.args[0])
        text = f"{self.name}: {without_credentials(reported.str())}"
        return SinkRefused(text) if reported.code() in _REFUSED else SinkError(text)


def key_of_message(record: tuple[Any, ...]) -> bytes:
    """Bar and source as a list in JSON, by which compaction tells messages apart."""
    return orjson.dumps([record[place] if place != _BEGINS else to_nanoseconds(record[place]) for place in _IDENTITY])


def _text(error: BaseException) -> str:
    return without_credentials(str(error))
