"""Tests of the table of pairs: every event in every state, and what it makes of the coverage ledger.

Times are seconds; the grace is 1 s. The exchange's clock reads 100 s more than the steady one.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastbars.live.coverage import Coverage, PairState

SECOND = 1_000_000_000
OFFSET = 100
ABSENT, REQUESTED, CONFIRMED, CARRYING = PairState


class Ledger:
    """Writes down the changes, in seconds."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.by_name: bool | None = None

    def take_charge(self, *, by_name: bool = True) -> None:
        self.by_name = by_name

    def cover(self, symbols: list[str] | None, from_ns: int) -> None:
        self._write("cover", symbols, from_ns)

    def uncover(self, symbols: list[str] | None, since_ns: int, *, lost: bool = True) -> None:
        self._write("uncover" if lost else "unwanted", symbols, since_ns)

    def lose(self, symbols: list[str] | None, since_ns: int, until_ns: int) -> None:
        self._write("lose", symbols, since_ns, until_ns)

    def bridge(self, symbols: list[str] | None, since_ns: int, until_ns: int) -> None:
        self._write("bridge", symbols, since_ns, until_ns)

    def _write(self, what: str, symbols: list[str] | None, *times_ns: int) -> None:
        named = "all" if symbols is None else ",".join(symbols)
        self.changes.append(" ".join([what, named, *(f"{time_ns / SECOND:g}" for time_ns in times_ns)]))


class Feed:
    """What is known of the session; a test says what."""

    grace_ns = SECOND

    def __init__(self) -> None:
        self.knows_clock = True
        self.heard: dict[int, float] = {}
        self.traded: dict[str, float] = {}
        self.watched: list[str] = []
        self.carriers: dict[str, list[int]] = {}

    def now_ns(self, steady_ns: int) -> int | None:
        return steady_ns + OFFSET * SECOND if self.knows_clock else None

    def heard_ns(self, connection: int | None) -> int | None:
        return self._ns(max(self.heard.values(), default=None) if connection is None else self.heard.get(connection))

    @property
    def symbols(self) -> list[str]:
        return list(self.traded)

    def trade_time_ns(self, symbol: str) -> int | None:
        return self._ns(self.traded.get(symbol))

    def set_carriers(self, symbol: str, connections: frozenset[int]) -> None:
        self.carriers[symbol] = sorted(connections)

    def watch(self, symbols: list[str]) -> None:
        self.watched += symbols

    def _ns(self, second: float | None) -> int | None:
        return None if second is None else round(second * SECOND)


class Table:
    """A table of pairs; its times are the exchange's, in seconds."""

    def __init__(self, **kinds: bool) -> None:
        self.ledger, self.feed = Ledger(), Feed()
        self.coverage = Coverage(self.feed, self.ledger, **kinds)

    def request(self, connection: int, *symbols: str, **options: bool) -> None:
        self.coverage.request(connection, symbols, **options)

    def confirm(self, second: float, connection: int, *symbols: str) -> None:
        self.coverage.confirm(connection, symbols, self._steady(second))

    def carry(self, second: float, connection: int, *symbols: str) -> None:
        """Ask for symbols, and have them confirmed."""
        self.request(connection, *symbols)
        self.confirm(second, connection, *symbols)

    def trades(
        self, oldest: float, connection: int, symbol: str, *, held: bool = False, second: float | None = None
    ) -> None:
        steady_ns = None if second is None else self._steady(second)
        self.coverage.confirm_by_trades(connection, symbol, round(oldest * SECOND), steady_ns, held=held)

    def passes(self, second: float) -> None:
        self.coverage.pass_time(self._steady(second))

    def end(self, second: float, connection: int, *symbols: str, wanted: bool = True, answered: bool = True) -> None:
        self.coverage.end(connection, symbols, self._steady(second), wanted=wanted, answered=answered)

    def lose(self, heard: float | None, connection: int, *, wanted: bool = True) -> None:
        """The connection is gone; the last event time that came over it was `heard`."""
        if heard is not None:
            self.feed.heard[connection] = heard
        self.coverage.lose(connection, wanted=wanted)

    def changes(self) -> list[str]:
        """Those since the last call."""
        changes, self.ledger.changes = self.ledger.changes, []
        return changes

    def _steady(self, second: float) -> int:
        return round((second - OFFSET) * SECOND)


def in_state(state: PairState, **kinds: bool) -> Table:
    """A table whose pair (A, connection 0) is in this state; it CARRIES from 111 s on."""
    table = Table(**kinds)
    if state is not ABSENT:
        table.request(0, "A")
    if state is CONFIRMED:
        table.feed.knows_clock = False
    if state in (CONFIRMED, CARRYING):
        table.confirm(110, 0, "A")
    table.feed.knows_clock = True
    assert table.coverage.state("A", 0) is state
    table.changes()
    table.feed.heard[0] = 150.0
    table.feed.traded["A"] = 140.0
    return table


EVENTS: dict[str, Callable[[Table], object]] = {
    "request": lambda table: table.request(0, "A"),
    "confirm": lambda table: table.confirm(160, 0, "A"),
    "trades": lambda table: table.trades(160, 0, "A"),
    "time passes": lambda table: table.passes(160),
    "suspect": lambda table: table.coverage.suspect(["A"]),
    "end": lambda table: table.end(160, 0, "A"),
    "ended by the user": lambda table: table.end(160, 0, "A", wanted=False),
    "end unanswered": lambda table: table.end(160, 0, "A", answered=False),
    "lose": lambda table: table.lose(150, 0),
    "closed by the user": lambda table: table.lose(150, 0, wanted=False),
    "confirm another": lambda table: table.confirm(160, 0, "B"),
    "confirm elsewhere": lambda table: table.confirm(160, 1, "A"),
    "lose another": lambda table: table.lose(150, 1),
}  # fmt: skip
# What differs from "nothing changes".
TRANSITIONS: dict[tuple[PairState, str], tuple[PairState, list[str]]] = {
    (ABSENT, "request"): (REQUESTED, []),
    (REQUESTED, "confirm"): (CARRYING, ["cover A 161"]),
    (REQUESTED, "trades"): (CARRYING, ["cover A 161"]),
    (REQUESTED, "end"): (ABSENT, []),
    (REQUESTED, "ended by the user"): (ABSENT, []),
    (REQUESTED, "end unanswered"): (ABSENT, []),
    (REQUESTED, "lose"): (ABSENT, []),
    (REQUESTED, "closed by the user"): (ABSENT, []),
    (CONFIRMED, "trades"): (CARRYING, ["cover A 161"]),
    (CONFIRMED, "time passes"): (CARRYING, ["cover A 161"]),
    (CONFIRMED, "suspect"): (REQUESTED, []),
    (CONFIRMED, "end"): (ABSENT, []),
    (CONFIRMED, "ended by the user"): (ABSENT, []),
    (CONFIRMED, "end unanswered"): (ABSENT, []),
    (CONFIRMED, "lose"): (ABSENT, []),
    (CONFIRMED, "closed by the user"): (ABSENT, []),
    (CARRYING, "suspect"): (REQUESTED, ["uncover A 140"]),
    (CARRYING, "end"): (ABSENT, ["uncover A 160"]),
    (CARRYING, "ended by the user"): (ABSENT, ["unwanted A 160"]),
    (CARRYING, "end unanswered"): (ABSENT, ["uncover A 149"]),
    (CARRYING, "lose"): (ABSENT, ["uncover A 149"]),
    (CARRYING, "closed by the user"): (ABSENT, ["unwanted A 149"]),
}


@pytest.mark.parametrize("state", PairState)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_in_every_state(state: PairState, event: str) -> None:
    table = in_state(state)
    EVENTS[event](table)
    after, changes = TRANSITIONS.get((state, event), (state, []))
    # Any event but these tells the time, too.
    if state is CONFIRMED and event in ("confirm", "confirm another", "confirm elsewhere"):
        after, changes = CARRYING, ["cover A 161"]
    assert (table.coverage.state("A", 0), table.changes()) == (after, changes)


# When a span begins.


def test_a_span_begins_one_grace_after_the_ack() -> None:
    table = Table()
    table.request(0, "A", "B", "C")
    table.confirm(110, 0, "A", "B")
    table.confirm(112.5, 0, "C")
    assert table.changes() == ["cover A,B 111", "cover C 113.5"]


def test_an_ack_that_comes_twice_and_one_of_an_earlier_request_change_nothing() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.confirm(120, 0, "A")
    table.end(130, 0, "A")
    table.confirm(131, 0, "A")  # late: of the request that is over
    assert table.changes() == ["cover A 111", "uncover A 130"]
    assert table.coverage.state("A", 0) is ABSENT


def test_an_ack_of_a_connection_that_is_gone_changes_nothing() -> None:
    table = Table()
    table.request(0, "A")
    table.lose(None, 0)
    table.confirm(110, 0, "A")
    assert (table.changes(), table.coverage.state("A", 0)) == ([], ABSENT)


def test_a_lost_ack_is_made_up_for_by_the_first_trade_and_a_second_request_changes_nothing() -> None:
    table = Table()
    table.request(0, "A")
    table.request(0, "A")  # asked again, as no answer came
    table.trades(120, 0, "A")
    table.request(0, "A")
    table.confirm(130, 0, "A")  # the answer to the second request
    assert table.changes() == ["cover A 121"]


def test_where_acks_prove_nothing_only_a_trade_begins_a_span() -> None:
    table = Table(acks_prove=False)
    table.carry(110, 0, "A")
    table.passes(500)
    assert (table.changes(), table.coverage.state("A", 0)) == ([], REQUESTED)
    table.trades(600, 0, "A")
    assert table.changes() == ["cover A 601"]


def test_the_latest_trade_of_before_that_comes_once_more_begins_a_span_a_grace_after_it_came() -> None:
    table = Table(acks_prove=False)
    table.request(1, "A")
    table.trades(5, 1, "A", second=9)
    assert table.ledger.changes == ["cover A 10"]


def test_a_span_waits_for_the_exchanges_clock_and_begins_one_grace_after_the_first_known_time() -> None:
    table = Table()
    table.feed.knows_clock = False
    table.carry(110, 0, "A")
    table.passes(130)
    assert (table.changes(), table.coverage.is_waiting) == ([], True)
    table.feed.knows_clock = True
    table.passes(150)
    assert (table.changes(), table.coverage.is_waiting) == (["cover A 151"], False)


def test_a_connection_that_is_lost_before_the_clock_is_known_has_covered_nothing() -> None:
    table = in_state(CONFIRMED)
    table.feed.knows_clock = False
    table.lose(None, 0)
    table.feed.knows_clock = True
    table.passes(200)
    assert table.changes() == []


def test_trades_of_a_subscription_that_may_still_be_ending_do_not_confirm_the_next_one() -> None:
    table = Table()
    table.request(0, "A", by_trades=False)  # its unsubscription was not answered
    table.trades(120, 0, "A")
    assert (table.changes(), table.coverage.is_watched("A", 0)) == ([], True)
    table.confirm(130, 0, "A")
    assert table.changes() == ["cover A 131"]


# Recent trades.


def test_recent_trades_reach_back_to_the_oldest_of_them_and_no_grace_is_waited() -> None:
    table = Table(sends_recent=True)
    table.request(0, "A")
    table.trades(80, 0, "A")
    assert table.changes() == ["cover A 80"]


def test_for_recent_trades_a_grace_is_waited_after_the_ack() -> None:
    table = Table(sends_recent=True)
    table.carry(110, 0, "A", "B")
    table.passes(110.5)
    table.trades(90, 0, "A")
    table.passes(111)
    assert table.changes() == ["cover A 90", "cover B 111"]  # nothing came of B
    table.trades(105, 0, "B")
    assert table.changes() == ["bridge B 105 111"]


def test_recent_trades_of_which_one_was_held_bridge_the_outage() -> None:
    table = Table(sends_recent=True)
    table.carry(110, 0, "A")
    table.trades(110, 0, "A")
    table.lose(150, 0)
    table.request(1, "A")
    table.trades(149.5, 1, "A", held=True)
    assert table.changes()[-3:] == ["uncover A 149", "cover A 149.5", "bridge A 149 149.5"]


def test_recent_trades_that_come_after_the_ack_bridge_as_well() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.trades(110, 0, "A")
    table.lose(150, 0)
    table.carry(160, 1, "A")
    table.trades(140, 1, "A", held=True)
    assert table.changes()[-3:] == ["uncover A 149", "cover A 161", "bridge A 149 161"]


def test_recent_trades_that_reach_back_behind_the_gap_bridge_it_even_if_none_was_held() -> None:
    table = Table(sends_recent=True)
    table.carry(110, 0, "A")
    table.passes(111)
    table.lose(150, 0)
    table.request(1, "A")
    table.trades(145, 1, "A")
    assert table.changes()[-3:] == ["uncover A 149", "cover A 145", "bridge A 149 149"]


def test_recent_trades_that_do_not_reach_back_leave_what_is_before_them_lost() -> None:
    table = Table(sends_recent=True)
    table.carry(110, 0, "A")
    table.passes(111)
    table.lose(150, 0)
    table.request(1, "A")
    table.trades(155, 1, "A")
    assert table.changes()[-2:] == ["uncover A 149", "cover A 155"]


def test_a_trade_that_was_held_bridges_the_last_gap_alone() -> None:
    table = Table(sends_recent=True)
    table.carry(110, 0, "A")
    table.passes(111)
    table.lose(150, 0)  # a gap from 149 to 155
    table.request(1, "A")
    table.trades(155, 1, "A")
    table.lose(160, 1)
    table.request(2, "A")
    table.changes()
    table.trades(157, 2, "A", held=True)  # of those that came over connection 1
    assert table.changes() == ["cover A 157", "bridge A 159 159"]


def test_what_the_other_line_has_brought_since_the_gap_does_not_bridge_it() -> None:
    table = Table(sends_recent=True)
    for line in (0, 1):
        table.carry(110, line, "A")
    table.passes(111)
    table.lose(150, 0)
    table.lose(150, 1)
    table.request(2, "A")
    table.request(3, "A")
    table.changes()
    table.trades(155, 2, "A")  # a gap from 149 to 155
    table.trades(154, 3, "A", held=True)  # the trade at 155, which came over the other line
    assert table.changes() == ["cover A 155", "bridge A 154 155"]


# When a span ends.


def test_a_lost_connection_uncovers_all_that_it_carried_from_its_last_event_less_grace() -> None:
    table = Table()
    table.carry(110, 0, "A", "B")
    table.carry(110, 1, "C")
    table.lose(150, 0)
    assert table.changes()[2:] == ["uncover A,B 149"]
    assert [table.coverage.state(symbol, 0) for symbol in "AB"] == [ABSENT, ABSENT]
    assert table.coverage.state("C", 1) is CARRYING


def test_a_connection_that_brought_nothing_since_the_span_began_has_covered_nothing() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.lose(None, 0)
    table.carry(120, 1, "A")
    table.lose(115, 1)
    assert table.changes() == ["cover A 111", "uncover A 111", "cover A 121", "uncover A 121"]


def test_while_another_line_carries_a_symbol_nothing_is_uncovered() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.carry(110, 1, "A")
    table.lose(150, 0)
    assert table.changes() == ["cover A 111"]
    table.lose(160, 1)
    assert table.changes() == ["uncover A 159"]


def test_of_two_lines_the_one_that_lags_opens_no_gap() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.carry(110, 1, "A")
    table.lose(160, 0)  # it was ahead
    table.lose(130, 1)  # it lagged
    assert table.changes() == ["cover A 111", "uncover A 159"]


def test_of_two_lines_one_that_had_stalled_before_the_other_began_leaves_a_gap_between_them() -> None:
    table = Table()
    table.carry(110, 0, "A")  # stalls at 120
    table.carry(140, 1, "A")
    table.lose(120, 0)  # found dead much later
    assert table.changes() == ["cover A 111", "lose A 119 141"]
    table.lose(200, 1)
    assert table.changes() == ["uncover A 199"]


def test_a_line_that_came_and_went_covers_its_own_span_alone() -> None:
    table = Table()
    table.carry(110, 0, "A")  # stalls at 120
    table.carry(150, 1, "A")
    table.lose(180, 1)
    table.changes()
    table.lose(120, 0)  # only now it is found: 119 to 151 was nobody's, though the other one reached 179
    assert table.changes() == ["uncover A 179", "lose A 119 151"]


def test_of_several_lines_that_came_and_went_each_covers_its_own_span() -> None:
    table = Table()
    table.carry(110, 0, "A")  # stalls at 120
    for connection, begun, ended in ((1, 150, 180), (2, 170, 200), (3, 250, 280)):
        table.carry(begun, connection, "A")
        table.lose(ended, connection)
    table.changes()
    table.lose(120, 0)
    assert table.changes() == ["uncover A 279", "lose A 119 151", "lose A 199 251"]


def test_a_span_that_ends_before_it_begins_covers_nothing() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.request(1, "A")
    table.trades(150, 1, "A")  # it would carry from 151 on
    table.end(150, 1, "A", answered=False)
    table.changes()
    table.lose(140, 0)
    assert table.changes() == ["uncover A 139"]


def test_a_span_that_reaches_back_ends_where_its_connection_does() -> None:
    table = Table(sends_recent=True)
    table.carry(110, 0, "A")
    table.lose(120, 0)
    table.request(1, "A")
    table.trades(130, 1, "A")
    table.changes()
    table.lose(135, 1)
    assert table.changes() == ["uncover A 134"]


def test_a_trade_that_came_in_the_gap_over_a_pair_that_is_not_confirmed_does_not_bridge_it() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.lose(120, 0)
    table.request(1, "A", by_trades=False)  # brings a trade of 140
    table.request(2, "A")
    table.changes()
    table.trades(140, 2, "A", held=True)
    assert table.changes() == ["cover A 141"]


def test_the_end_of_a_line_that_went_ahead_counts_until_the_gap_is_there() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.carry(115, 1, "A")
    table.lose(300, 0)
    table.carry(310, 2, "A")
    table.lose(200, 1)  # it had stalled at 200: between 299 and 311 nothing carried the symbol
    assert table.changes() == ["cover A 111", "lose A 299 311"]


def test_a_line_that_ended_before_its_span_began_has_covered_nothing() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.carry(149.5, 1, "A")
    table.lose(150, 1)  # its span would have begun at 150.5
    table.lose(150, 0)
    assert table.changes() == ["cover A 111", "uncover A 149"]


def test_a_symbol_that_moves_to_another_connection_stays_covered_where_they_overlap() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.carry(150, 1, "A")
    table.end(155, 0, "A")
    assert (table.changes(), dict(table.coverage.carriers("A"))) == (["cover A 111"], {1: 151 * SECOND})
    assert table.feed.carriers == {"A": [1]}


def test_a_symbol_that_ends_on_one_connection_before_it_begins_on_another_has_a_gap() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.end(150, 0, "A")
    table.carry(152, 1, "A")
    assert table.changes() == ["cover A 111", "uncover A 150", "cover A 153"]


def test_what_the_user_closes_ends_a_grace_before_the_last_event_or_with_a_later_trade_of_the_symbol() -> None:
    table = Table()
    table.feed.traded = {"A": 149.75, "B": 120.0}
    table.carry(110, 0, "A", "B", "C")
    table.lose(150, 0, wanted=False)
    assert table.changes()[1:] == ["unwanted A 149.75", "unwanted B,C 149"]
    table.coverage.request(1, [None])
    table.coverage.confirm(1, [None], (160 - OFFSET) * SECOND)
    table.feed.traded = {"A": 199.5, "B": 120.0}
    table.lose(200, 1, wanted=False)
    assert table.changes() == ["cover all 161", "unwanted A 199.5", "unwanted B 199"]


def test_what_the_exchange_has_closed_as_the_user_asked_was_covered_until_then() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.feed.heard[0] = 120.0
    table.feed.traded["A"] = 120.0
    table.coverage.lose(0, wanted=False, asked_ns=(150 - OFFSET) * SECOND)
    assert table.changes()[1:] == ["unwanted A 149"]


def test_where_the_user_closes_all_lines_time_that_one_did_not_carry_yet_is_not_lost() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.carry(149.5, 1, "A")
    table.changes()
    table.lose(150, 0, wanted=False)
    table.lose(150, 1, wanted=False)
    assert table.changes() == ["unwanted A 149", "cover A 150.5", "unwanted A 150.5"]


def test_where_the_user_has_all_bars_closed_they_end_and_others_begin() -> None:
    table = Table()
    table.feed.traded = {"A": 149.75, "B": 120.0}
    table.feed.heard = {0: 150.0, 1: 140.0}
    table.carry(110, 0, "A", "B")
    table.carry(110, 1, "A")
    table.lose(None, 7)
    table.changes()
    table.coverage.cut()
    assert table.changes() == ["unwanted A 149.75", "cover A 149.75", "unwanted B 149", "cover B 149"]
    assert table.coverage.state("A", 0) is CARRYING


def test_a_symbol_that_is_asked_for_elsewhere_is_still_wanted_though_the_user_ended_it_here() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.request(1, "A")
    table.end(150, 0, "A", wanted=False)
    assert table.changes()[-1] == "uncover A 150"


def test_what_is_given_up_while_it_is_lost_is_lost_until_then_only() -> None:
    table = Table()
    table.carry(110, 0, "A", "B")
    table.lose(150, 0)
    table.coverage.give_up(["A", "C"], (160 - OFFSET) * SECOND)
    assert table.changes()[1:] == ["uncover A,B 149", "unwanted A 160"]


def test_what_is_refused_after_a_reconnect_is_lost_until_then_only() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.lose(150, 0)
    table.request(1, "A")
    table.end(160, 1, "A", wanted=False)
    assert table.changes()[1:] == ["uncover A 149", "unwanted A 160"]


# Suspicion.


def test_a_silent_symbol_is_uncovered_from_its_last_trade_until_it_is_confirmed_again() -> None:
    table = Table()
    table.carry(110, 0, "A", "B")
    table.feed.traded["A"] = 120.0
    table.coverage.suspect(["A"])
    assert table.coverage.state("A", 0) is REQUESTED
    table.end(180, 0, "A")  # its subscription is renewed
    table.carry(181, 0, "A")
    assert table.changes()[1:] == ["uncover A 120", "cover A 182"]


def test_a_silent_symbol_is_bridged_where_recent_trades_show_that_nothing_was_missed() -> None:
    table = Table(sends_recent=True)
    table.carry(110, 0, "A")
    table.trades(110, 0, "A")
    table.feed.traded["A"] = 120.0
    table.coverage.suspect(["A"])
    table.end(180, 0, "A")
    table.carry(181, 0, "A")
    table.trades(115, 0, "A", held=True)
    assert table.changes()[1:] == ["uncover A 120", "cover A 115", "bridge A 120 120"]


def test_a_silent_symbol_that_never_traded_is_uncovered_since_it_was_carried() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.carry(112, 1, "A")
    table.coverage.suspect(["A", "never heard of"])
    assert table.changes() == ["cover A 111", "uncover A 111"]
    assert [table.coverage.state("A", connection) for connection in (0, 1)] == [REQUESTED, REQUESTED]


# Another process, messages that cannot be read, sessions whose subscriptions name nothing.


def test_what_another_process_has_covered_is_lost_since_if_it_is_asked_for_again_and_has_ended_otherwise() -> None:
    table = Table()
    table.coverage.restored(["A", "B"], 90 * SECOND)
    table.carry(120, 0, "A", "C")
    table.lose(130, 0)
    table.request(1, "A")
    assert table.changes() == ["unwanted A,B 90", "uncover A 90", "cover A,C 121", "uncover A,C 129"]
    assert table.ledger.by_name is True


def test_what_was_carried_when_all_was_closed_with_its_bars_kept_is_lost_since_if_it_is_asked_for_again() -> None:
    table = Table()
    table.carry(110, 0, "A", "B")
    table.feed.heard[0] = 150.0
    table.coverage.lose(0, wanted=False, kept=True)
    table.request(1, "A")
    assert table.changes() == ["cover A,B 111", "uncover A 149"]


def test_where_no_names_are_asked_for_all_that_another_process_has_covered_is_lost_since() -> None:
    table = Table()
    table.coverage.restored(["A", "B"], 90 * SECOND)
    table.coverage.request(0, [None])
    table.coverage.confirm(0, [None], (120 - OFFSET) * SECOND)
    assert table.changes() == ["unwanted A,B 90", "uncover A,B 90", "cover all 121"]
    assert table.ledger.by_name is False


def test_recent_trades_bridge_the_time_when_the_process_was_not_there() -> None:
    table = Table(sends_recent=True)
    table.coverage.restored(["A"], 90 * SECOND)
    table.request(0, "A")
    table.trades(88, 0, "A", held=True)
    assert table.changes() == ["unwanted A 90", "uncover A 90", "cover A 88", "bridge A 90 90"]


def test_a_message_that_cannot_be_read_is_a_loss_of_all_that_its_connection_alone_carries() -> None:
    table = Table()
    table.carry(110, 0, "A", "B")
    table.carry(110, 1, "B", "C")
    table.changes()
    table.coverage.lose_unread(0, 150 * SECOND)
    table.coverage.lose_unread(7, 150 * SECOND)
    assert table.changes() == ["lose A 149 150"]


def test_where_subscriptions_name_no_symbols_a_connection_carries_all_or_none() -> None:
    table = Table(acks_prove=False)
    for connection in (0, 1):
        table.coverage.request(connection, [None])
        table.coverage.confirm(connection, [None], (110 - OFFSET) * SECOND)
    table.lose(150, 0)
    assert table.changes() == ["cover all 111"]
    table.lose(160, 1)
    assert table.changes() == ["uncover all 159"]


def test_the_first_trades_of_each_pair_are_watched_for_and_those_alone() -> None:
    table = Table()
    table.carry(110, 0, "A")
    table.request(1, "A")
    assert table.feed.watched == ["A", "A"]
    assert [table.coverage.is_watched("A", connection) for connection in (None, 0, 1, 2)] == [True, True, True, False]
    table.trades(120, 0, "A")
    assert [table.coverage.is_watched("A", connection) for connection in (None, 0, 1)] == [True, False, True]
    table.lose(None, 1)
    assert not table.coverage.is_watched("A")


def test_a_session_without_connections_loses_and_covers_all_at_once() -> None:
    table = Table()
    table.feed.knows_clock = False
    table.coverage.begin_outage(0)
    assert table.changes() == []  # before the exchange has told the time there is no bar that could lack anything
    table.feed.knows_clock = True
    table.feed.heard[0] = 150.0
    for second in (158, 159):
        table.coverage.begin_outage((second - OFFSET) * SECOND)
    table.coverage.end_outage((170 - OFFSET) * SECOND)
    assert table.changes() == ["uncover all 149", "cover all 171"]


def test_what_stood_still_for_70_seconds_is_told_the_time_that_has_passed() -> None:
    table = Table()
    table.request(0, "A")
    table.feed.heard[0] = 112.0
    table.confirm(110, 0, "A")
    # The process stands still from 112 to 182. Then its connection turns out to be gone: nothing came since.
    table.lose(112, 0)
    table.carry(183, 1, "A")
    assert table.changes() == ["cover A 111", "uncover A 111", "cover A 184"]
