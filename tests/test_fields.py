"""The declaration of where trades stand."""

from __future__ import annotations

from typing import Any

import pytest

from fastbars.wire.fields import TradeFields

LEAST: dict[str, Any] = {"match": {"e": "trade"}, "symbol": "s", "price": "p", "size": "q", "time": "T"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"time_unit": "h"}, "time unit 'h' is not one of ms, us, ns, ms or us, s, rfc3339"),
        ({"event_time_unit": ""}, "time unit '' is not one of"),
        ({"side": "S"}, "side 'S' needs different literals for buy and sell, got '' and ''"),
        ({"side": "S", "buy": True, "sell": True}, "got True and True"),
        ({"last_id": "l"}, "last_id 'l' is given without first_id"),
        ({"match": {("data",): "x"}, "trades": ("data",)}, "names no value outside the trades"),
        ({"symbol": ("data", "s"), "trades": ("data",)}, "is inside the trade; name it 's'"),
        ({"event_time": ()}, "names no value"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        TradeFields(**LEAST | wrong)


def test_a_declaration_says_nothing_of_what_an_exchange_does_not_send() -> None:
    fields = TradeFields(**LEAST)
    assert (fields.trades, fields.first_id, fields.side, fields.event_time) == ((), None, None, None)
