"""Replaying recorded messages through the code that live data takes.

A plain tape has messages alone, so that bars close by trades. A recording has everything that its sessions consumed,
so that the same bars come out again, to the last byte, status and revision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer, RowSink, shortened
from fastbars.callbacks import check_callbacks
from fastbars.errors import FastbarsError, SpecError, TapeError, UnknownExchangeError
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Trade
from fastbars.kernel.rows import IssuedRows
from fastbars.live.admission import Terms
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.delivery_log import decoded
from fastbars.live.session import Session
from fastbars.live.snapshots import unpack
from fastbars.specs import BarSpec, Origin
from fastbars.tapes.reader import read_tapes
from fastbars.tapes.recording import Entry, is_recording, read_recording
from fastbars.ticks import TickData

_MESSAGES_A_BATCH = 4096
_MOST_SPECS = 256

Bars = str | int | BarSpec | Sequence[str | int | BarSpec]
Parser = Callable[[dict[str, Any]], TickData | None]


def _change_streams(session: Session, entry: Entry) -> list[OHLCVBar]:
    added, ended = ([(symbol, channel) for symbol, channel in entry.fields[name]] for name in ("added", "ended"))
    session.change_streams(added, ended, entry.receive_time_ns)
    return []


def _set_terms(session: Session, entry: Entry) -> list[OHLCVBar]:
    terms = {symbol: Terms(*each) for symbol, each in entry.fields["terms"].items()}
    session.set_terms(terms, entry.receive_time_ns)
    return []


def _change_feed(session: Session, entry: Entry) -> list[OHLCVBar]:
    number, line = entry.fields["number"], entry.fields["line"]
    if entry.fields["opens"]:
        session.open_feed(number, line)
    elif (feed := session.intake.feeds.opened.get(number)) is not None:  # the file in which it opened may be missing
        session.close_feed(feed)
    return []


def _change_carriers(session: Session, entry: Entry) -> list[OHLCVBar]:
    symbol, connections = entry.fields["symbol"], entry.fields["connections"]
    if not isinstance(symbol, str) or not all(type(each) is int for each in connections):
        raise TypeError(f"{shortened(symbol)} is carried by {shortened(connections)}")
    session.set_carriers(symbol, frozenset(connections))
    return []


def _load(session: Session, entry: Entry) -> list[OHLCVBar]:
    session.divert_rows(None)  # from here on bars are judged by those that an earlier process has issued
    return session.load(unpack(entry.body), entry.receive_time_ns)


def _report(session: Session, entry: Entry) -> list[OHLCVBar]:
    session.divert_rows(None)  # as above, by those that were reported
    return session.report([decoded(one) for one in orjson.loads(entry.body)], entry.receive_time_ns)


def _begin_past(session: Session, entry: Entry) -> list[OHLCVBar]:
    fields = entry.fields
    if _is_made(session, fields["spec"]):
        session.divert_rows(None)  # they wait for bars that no kernel makes
        session.past.open(fields["symbol"], fields["spec"], fields["since_ns"], entry.receive_time_ns)
    return []


def _add_past(session: Session, entry: Entry) -> list[OHLCVBar]:
    fields = entry.fields
    if not _is_made(session, fields["spec"]):
        return []
    return session.past.add_recorded(
        fields["symbol"], fields["spec"], entry.body, fields["until_ns"], entry.receive_time_ns
    )


def _end_past(session: Session, entry: Entry) -> list[OHLCVBar]:
    if not _is_made(session, entry.fields["spec"]):
        return []
    return session.past.join(entry.fields["symbol"], entry.fields["spec"], entry.receive_time_ns)


def _is_made(session: Session, spec: object) -> bool:
    # A replay may make other bars than the run did.
    return any(str(each) == spec for each in session.config.specs)


# How a replay gives each recorded event to the session.
INPUTS: dict[str, Callable[[Session, Entry], list[OHLCVBar]]] = {
    "clock": lambda session, entry: session.advance_clock(
        entry.fields["steady_ns"],
        entry.receive_time_ns,
        feed_up=entry.fields["feed_up"],
        unread=frozenset(entry.fields.get("unread", ())),
    ),
    "feed": _change_feed,
    "carriers": _change_carriers,
    "flush": lambda session, entry: session.flush(entry.receive_time_ns, entry.fields["symbol"]),
    "carried": lambda session, entry: session.changes.take_charge(
        entry.receive_time_ns, by_name=entry.fields["by_name"]
    ),
    "cover": lambda session, entry: session.changes.cover(
        entry.fields["symbols"], entry.fields["from_ns"], entry.receive_time_ns
    ),
    "uncover": lambda session, entry: session.changes.uncover(
        entry.fields["symbols"], entry.fields["since_ns"], entry.receive_time_ns, lost=entry.fields["lost"]
    ),
    "lose": lambda session, entry: session.changes.lose(
        entry.fields["symbols"], entry.fields["since_ns"], entry.fields["until_ns"], entry.receive_time_ns
    ),
    "bridge": lambda session, entry: session.changes.bridge(
        entry.fields["symbols"], entry.fields["since_ns"], entry.fields["until_ns"], entry.receive_time_ns
    ),
    # Recordings of version 1 have these three instead.
    "feed_down": lambda session, entry: session.changes.uncover(None, entry.fields["time_ns"], entry.receive_time_ns),
    "feed_up": lambda session, entry: session.changes.cover(None, entry.fields["time_ns"], entry.receive_time_ns),
    "heal": lambda session, entry: session.repairs.heal(
        entry.fields["symbol"], [Trade(*row) for row in orjson.loads(entry.body)], entry.receive_time_ns
    ),
    "reach_back": lambda session, entry: session.repairs.reach_back(
        entry.fields["symbol"], entry.fields["trade_id"], entry.fields["time_ns"], entry.receive_time_ns
    ),
    "leave_out": lambda session, entry: session.repairs.leave_out(
        entry.fields["symbol"], entry.fields["ranges"], entry.receive_time_ns
    ),
    "report": _report,
    "past_begins": _begin_past,
    "past": _add_past,
    "past_ends": _end_past,
    "streams": _change_streams,
    "terms": _set_terms,
    "load": _load,
    "outage": lambda session, entry: session.changes.lose(
        entry.fields["symbols"], entry.fields["since_ns"], entry.fields["until_ns"], entry.receive_time_ns
    ),
}


# What a malformed input, not written by our recorder, can raise in the code that takes it.
MALFORMED = (FastbarsError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)


Batches = Callable[[list[Session], RowSink | None], Iterator[list[OHLCVBar]]]


class Replay:
    """The bars of tapes or recordings, as an iterator; made by `replay`.

    Args:
        batches: begins a pass over the files, of the bars that are issued together; that of a recording adds the
            sessions that it meets to the list it is given.
        sessions: those of a plain tape, which are known before.

    Attributes:
        sessions: their counters say what was read. Those of a recording are added during the iteration.
    """

    def __init__(self, batches: Batches, sessions: Sequence[Session] = ()) -> None:
        self.sessions = list(sessions)
        self._batches = batches

    @property
    def session(self) -> Session:
        """The first of the sessions."""
        return self.sessions[0]

    def __iter__(self) -> Iterator[OHLCVBar]:
        for bars in self._batches(self.sessions, None):
            yield from bars

    def through(self, take: RowSink) -> Iterator[OHLCVBar]:
        """Iterate with `take` called with the rows of all bars, in order, of which no objects are made.

        Yields the others: those of a recorded process that was restored, whose bars depend on what an earlier process
        had issued. No callbacks are called.
        """
        issued: list[tuple[BarBuffer, IssuedRows]] = []
        for bars in self._batches(self.sessions, lambda buffer, rows: issued.append((buffer, rows))):
            # Not from within the session, which takes what is raised for a malformed input.
            for buffer, rows in issued:
                take(buffer, rows)
            issued.clear()
            yield from bars


def _bars_of_tapes(paths: Sequence[str | Path], session: Session, sink: RowSink | None) -> Iterator[list[OHLCVBar]]:
    session.divert_rows(sink)
    records = read_tapes(paths)
    failure: TapeError | None = None
    while failure is None:
        payloads: list[bytes] = []
        received_ns = 0
        try:
            for record in islice(records, _MESSAGES_A_BATCH):
                payloads.append(record.payload)
                received_ns = record.receive_time_ns or 0
        except TapeError as error:
            failure = error
        if not payloads:
            break
        yield session.receive(payloads, received_ns).bars
    # For a damaged tape too: the bars of everything before the fault are issued, then the error is raised.
    yield session.flush(0)
    if failure is not None:
        raise failure


def _bars_of_recordings(
    paths: Sequence[str | Path],
    sessions: list[Session],
    make_session: Callable[[dict[str, Any]], Session],
    sink: RowSink | None,
) -> Iterator[list[OHLCVBar]]:
    sessions.clear()
    run = ""
    by_number: dict[int, Session] = {}  # of the current run
    failure: FastbarsError | None = None
    try:
        for entry in read_recording(*paths):
            if entry.run != run:
                yield from _flush(by_number)
                run = entry.run
            if entry.fields.get("event") == "session":
                if entry.session not in by_number:  # each file of a run declares its sessions again
                    by_number[entry.session] = make_session(entry.fields)
                    by_number[entry.session].divert_rows(sink)
                    sessions.append(by_number[entry.session])
            else:
                yield _bars_of_entry(entry, by_number)
    except FastbarsError as error:
        failure = error
    yield from _flush(by_number)  # as above
    if failure is not None:
        raise failure


def _bars_of_entry(entry: Entry, sessions: dict[int, Session]) -> list[OHLCVBar]:
    if entry.payloads is not None:
        session = _session_of(entry, sessions)
        try:
            return session.receive(entry.payloads, entry.receive_time_ns, entry.steady_ns, line=entry.line).bars
        except MALFORMED as error:  # caused by the settings: malformed messages are counted, not raised
            raise TapeError(f"the recording of run {entry.run} has invalid settings: {error!r}") from error
    name = entry.fields.get("event")
    if name is None:  # a note
        return []
    if not isinstance(name, str) or name not in INPUTS:
        raise TapeError(
            f"the recording of run {entry.run} has an input {shortened(name)}, which this fastbars does not know"
        )
    session = _session_of(entry, sessions)
    try:
        return INPUTS[name](session, entry)
    except MALFORMED as error:
        raise TapeError(f"the recording of run {entry.run} has a malformed input {name!r}: {error!r}") from error


def _session_of(entry: Entry, sessions: dict[int, Session]) -> Session:
    session = sessions.get(entry.session)
    if session is None:
        raise TapeError(f"the recording of run {entry.run} does not declare its session {entry.session}")
    return session


def _flush(sessions: dict[int, Session]) -> Iterator[list[OHLCVBar]]:
    for session in sessions.values():
        yield session.flush(0)
    sessions.clear()


def replay(
    paths: str | Path | Sequence[str | Path],
    exchange: str | Exchange | None = None,
    bars: Bars | None = None,
    *,
    market: str | None = None,
    channel: str | None = None,
    timezone: str | None = None,
    origin: Origin | None = None,
    callbacks: Callbacks | None = None,
    parse_message: Parser | None = None,
) -> Replay:
    """Replay recorded raw messages into bars; several tapes are one stream, in the order given.

    Of a plain tape, bars close by trades only. Of a recording (written by `stream(..., record=...)`) every
    input of the run is repeated, so that its bars come again, equal in every field, status and revision. Bars that are
    open at the end come last (PARTIAL, `end`).

    Args:
        paths: plain tapes, bare or compressed with gzip or zstd; or recordings: folders or files of them.
        exchange, market: whose messages a plain tape has (market None: the exchange's first), by name, or an Exchange;
            a recording says it, and one of an Exchange of your own needs that as well.
        bars: bar specs; None: those that the recording was made with, and "1m" for a plain tape.
        channel: trade channel that bars are made from; None: the recording's, and that of a plain tape's first trade.
        timezone, origin: of day and longer bars that do not name their own (see `BarSpec.parse`); of `bars` alone.
        callbacks: called with ticks, exchange bars and the rest.
        parse_message: the user's own parser, if the recorded run had one.

    Raises:
        UnknownExchangeError, SpecError, SubscriptionError: at once.
        TapeError: paths are of both kinds, or a plain tape without `exchange`: at once; a file that is missing or
            damaged: while iterating, after the bars of everything before the fault.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    check_callbacks(parse_message=parse_message)
    recorded = [is_recording(Path(path)) for path in files]
    if not files:
        raise TapeError("no tape given")
    if (exchange is None or any(recorded)) and not all(recorded):
        _check_readable(files[recorded.index(False)])
    if not any(recorded):
        if exchange is None:
            raise TapeError(f"{files[0]}: a plain tape does not name its exchange: give exchange=")
        settings = StreamConfig(
            bars="1m" if bars is None else bars, timezone=timezone, origin=origin, close_by="trades"
        )
        venue = find_exchange(exchange, market)
        session = Session(venue, settings, callbacks, channel=channel, parse_message=parse_message)
        return Replay(lambda _, sink: _bars_of_tapes(files, session, sink), [session])
    if not all(recorded):
        raise TapeError(f"{files[recorded.index(False)]} is no recording, {files[recorded.index(True)]} is one")

    def make_session(declared: dict[str, Any]) -> Session:
        own_parser, settings, named = declared.get("own_parser"), declared.get("config"), declared.get("exchange")
        recorded_channel = declared.get("channel")
        if not (isinstance(settings, dict) and isinstance(named, str) and isinstance(recorded_channel, str | None)):
            raise TapeError("the recording does not name its exchange and settings")
        if own_parser and parse_message is None:
            raise TapeError("the recording was made with a parser of its own: give parse_message=")
        others = {} if bars is None else {"bars": bars, "timezone": timezone, "origin": origin}
        try:
            config = StreamConfig(**settings | others)
            if len(config.specs) > _MOST_SPECS:
                raise ValueError(f"{len(config.specs)} bar specs, more than {_MOST_SPECS}")
            return Session(
                _exchange_named(named, exchange),
                config,
                callbacks,
                channel=channel or recorded_channel,
                parse_message=parse_message if own_parser else None,
            )
        except MALFORMED as error:
            if isinstance(error, TapeError) or (bars is not None and isinstance(error, SpecError)):
                raise
            raise TapeError(f"the recording was made with settings that this fastbars does not know: {error}") from None

    return Replay(lambda sessions, sink: _bars_of_recordings(files, sessions, make_session, sink))


def _check_readable(path: str | Path) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise TapeError(f"{path}: cannot be read: {error.strerror or error}") from error


def _exchange_named(name: str, given: str | Exchange | None) -> Exchange:
    if isinstance(given, Exchange) and given.name == name:
        return given
    for markets in EXCHANGES.values():
        for exchange in markets.values():
            if exchange.name == name:
                return exchange
    venue, _, market = name.partition(" ")
    if venue in EXCHANGES and ("@" in market or not market):  # a region; or of a fastbars that did not name all markets
        try:
            return find_exchange(venue, market or None)
        except UnknownExchangeError as error:
            raise TapeError(f"the recording has messages of {shortened(name)}: {error}") from error
    raise TapeError(f"the recording has messages of {shortened(name)}, an exchange that this fastbars does not know")
