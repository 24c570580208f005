"""Messages of Interactive Brokers' gateway."""

from __future__ import annotations

from fastbars.exchanges import Heartbeat, Refusal, TokenWanted, Trade, interactive_brokers
from fastbars.testing import ExchangeFixtures

from .values import MINUTE, OPEN, OPEN_MS, T_MS, T_NS, candle, past, quote


def _fixtures() -> ExchangeFixtures:
    def message(fields: str) -> str:
        return f'{{"server_id":"q2","conid":41,"_updated":{T_MS},"6119":"q2",{fields},"topic":"smd+41"}}'

    def trade(price: str, size: str) -> Trade:
        return Trade("smd", "41", T_NS, price, size, 0)

    both = '"31":"189.60","7059":"1,300"'
    book = '"84":"189.59","85":"500","86":"189.61","88":"1,200"'
    fields = '{"fields":["31","84","85","86","88","7059"]}'
    url = "https://localhost:5000/v1/api/iserver/marketdata/history?conid=41&period=3min&bar=1min&outsideRth=true"
    answer = (
        '{"serverId":"20477","symbol":"AB","text":"AB INC","priceFactor":100,"startTime":"20260101-00:00:00",'
        '"timePeriod":"3min","barLength":60,"mdAvailability":"S","outsideRth":true,"volumeFactor":1,"data":['
        f'{{"o":173.4,"c":174.7,"h":175.1,"l":-170,"v":472117.45,"t":{OPEN_MS}}},'
        f'{{"o":174.7,"c":174.7,"h":174.7,"l":174.7,"v":0.0,"t":{OPEN_MS + 60_000}}}],"points":1,"travelTime":48}}'
    )
    return ExchangeFixtures(
        exchange=interactive_brokers.GATEWAY,
        subscribes=[([("41", "smd"), ("42", "smd")], [f"smd+41+{fields}", f"smd+42+{fields}"])],
        unsubscribes=[([("41", "smd")], ["umd+41+{}"])],
        trades=[
            (message(both), [trade("189.60", "1300")]),
            (message(f"{both},{book}"), [trade("189.60", "1300"), quote("41", "189.59 1200 189.61 500", T_NS)]),
            (message('"31":"189.5","7059":"1,300"'), [trade("189.5", "1300")]),
        ],
        refusals=[
            (
                '{"topic":"sts","args":{"connected":true,"authenticated":false,"competing":false}}',
                [Refusal(None, "the gateway is not logged in")],
            )
        ],
        empty=['{"server_id":"q1","topic":"smd+41"}', '{"topic":"smd+41","6509":"RpB","6119":"q2"}'],
        heartbeats=[
            (f'{{"topic":"system","hb":{T_MS}}}', [Heartbeat()]),
            ('{"topic":"tic","alive":true}', [Heartbeat()]),
            ('{"message":"waiting for session"}', [TokenWanted("waiting for session")]),
        ],
        raw=[
            (message('"31":"189.60"'), "smd", "41"),  # a change, and what it changes is not known
            (message('"31":"C189.60","7059":"100"'), "smd", "41"),  # the previous close
            (message('"31":"H189.60","7059":"100"'), "smd", "41"),  # halted
            ('{"topic":"sts","args":{"connected":true,"authenticated":true}}', "sts", None),
            ('{"topic":"smh+41","data":[]}', "smh", None),
            ('{"topic":"act","args":{}}', "act", None),
        ],
        garbage=[
            message(both).replace("_updated", "_x"),
            message('"31":"1.5","7059":"1x5"'),
            message('"31":"1,5","7059":"100"'),  # 1.5, or a group of three that was cut
            message(both).replace('"1,300"', "1300"),
            '{"topic":"sts"}',
        ],
        past_candles=[
            past(
                "41",
                f"GET {url}",
                answer,
                [
                    candle("41", "1m", MINUTE, "173.4 175.1 -170 174.7 472117.45"),
                    candle("41", "1m", MINUTE, "174.7 174.7 174.7 174.7 0", open_time=OPEN + MINUTE),
                ],
            ),
        ],
        unknown=["{}", "[]", "7", '"text"', '{"topic":5}'],
        event_times=[(message(both), T_NS), (f'{{"topic":"system","hb":{T_MS}}}', None), ("[]", None)],
        others=[
            (message(book), [quote("41", "189.59 1200 189.61 500", T_NS)]),
        ],
    )


FIXTURES = {"interactive_brokers": _fixtures()}
