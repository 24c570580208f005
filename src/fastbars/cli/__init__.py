"""The `fastbars` command. An error is one line on stderr and exit status 2."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fastbars.errors import FastbarsError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastbars", description="Exact OHLCV bars from every trade that exchanges send over WebSockets."
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log more (twice: everything) to stderr")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="an embedded exchange, the ordinary adapter, a live table, a verdict")
    demo.add_argument("--symbols", type=_positive_int, default=20, help="how many symbols (20)")
    demo.add_argument("--seconds", type=_positive_float, default=15.0, help="how long (15)")
    demo.add_argument("--rate", type=_positive_float, default=20_000.0, help="trades a second over all symbols (20000)")

    replay = commands.add_parser("replay", help="bars from recorded raw messages")
    replay.add_argument(
        "tapes", nargs="+", type=Path, metavar="TAPE", help="tapes, plain, gz or zst, or recordings: one stream"
    )
    replay.add_argument("--exchange", help="whose messages they are, such as binance; a recording says it itself")
    _add_common(replay, bars=None)

    record = commands.add_parser("record", help="record all that a stream sees, until interrupted; replay reads it")
    record.add_argument("exchange", help="such as binance")
    record.add_argument("symbols", nargs="+", metavar="SYMBOL", help="as the exchange writes them")
    _add_source(record, bars="1m")
    record.add_argument("-o", "--output", type=Path, metavar="DIR", required=True, help="folder that the files go to")
    record.add_argument("--url", help="connect here instead of the exchange's own address")
    record.add_argument("--seconds", type=_positive_float, help="end after this long")
    record.add_argument("--file-mb", type=_positive_float, default=256.0, help="begin a new file past this size (256)")
    record.add_argument("--file-s", type=_positive_float, default=3600.0, help="or past this age (3600)")
    record.add_argument(
        "--candles", action="store_true", help="the exchange's candles, too: `fastbars verify` reads them"
    )
    record.add_argument("--lines", type=_positive_int, default=1, help="connections that carry the same trades (1)")
    record.add_argument("--once", action="store_true", help="end when the server closes normally (code 1000)")

    verify = commands.add_parser("verify", help="bars of tapes or recordings beside the exchange's own candles")
    verify.add_argument("tapes", nargs="+", type=Path, metavar="TAPE", help="as for replay")
    verify.add_argument("--exchange", help="whose messages they are, such as binance; a recording says it itself")
    _add_source(verify, bars=None)
    verify.add_argument(
        "--klines", nargs="+", type=Path, default=[], metavar="CSV", help="candles as in Binance's public archive, too"
    )

    stream = commands.add_parser("stream", help="bars live from an exchange, until interrupted")
    stream.add_argument("exchange", help="such as binance")
    stream.add_argument("symbols", nargs="+", metavar="SYMBOL", help="as the exchange writes them")
    _add_common(stream)
    stream.add_argument("--lines", type=_positive_int, default=1, help="connections that carry the same trades (1)")
    stream.add_argument(
        "--verify",
        nargs="?",
        type=_positive_float,
        const=1.0,
        metavar="SHARE",
        help="compare bars with the exchange's candles, of all symbols or a share of them; the verdict goes to stderr",
    )
    stream.add_argument(
        "--record", type=Path, metavar="DIR", help="record all that bars are made from into this folder"
    )
    stream.add_argument("--url", help="connect here instead of the exchange's own address")
    stream.add_argument(
        "--close-by", choices=("clock", "trades"), default="clock", help="trades: no watermark or clock closes bars"
    )
    stream.add_argument("--once", action="store_true", help="end when the server closes normally (code 1000)")

    simulate = commands.add_parser("simulate", help="the embedded exchange by itself; prints its URL first")
    simulate.add_argument("--tape", nargs="+", type=Path, default=[], metavar="TAPE", help="serve these recordings")
    simulate.add_argument("--exchange", default="binance", help="whose dialect it speaks, such as bybit (binance)")
    simulate.add_argument("--market", help="such as usdm or linear (the exchange's first, mostly spot)")
    simulate.add_argument("--symbols", type=_positive_int, default=20, help="how many symbols (20)")
    simulate.add_argument("--rate", type=_positive_float, default=20_000.0, help="trades a second (20000)")
    simulate.add_argument("--seed", type=int, default=1, help="of the synthetic market (1)")
    simulate.add_argument("--port", type=_port, default=0, help="0: any free one")
    return parser


_MARKET_HELP = (
    "such as usdm or linear (the exchange's first, mostly spot); with a region such as spot@eea: okx has eea, us;"
    " bybit has tr, kz, ge, id, jp, eu, nl, ae"
)


def _add_source(parser: argparse.ArgumentParser, bars: str | None) -> None:
    default = bars or "as recorded, else 1m"
    parser.add_argument("--market", help=_MARKET_HELP)
    parser.add_argument("--bars", default=bars, help=f"bar specs with commas, such as 1m,5m,tick:1000 ({default})")
    parser.add_argument("--channel", help="trade channel that bars are made from, such as trade or aggTrade")


def _add_common(parser: argparse.ArgumentParser, bars: str | None = "1m") -> None:
    _add_source(parser, bars)
    parser.add_argument("--format", choices=("table", "csv", "jsonl"), default="table")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write here instead of to stdout")


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 65_536:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    level = {0: logging.WARNING, 1: logging.INFO}.get(options.verbose, logging.DEBUG)
    logging.basicConfig(stream=sys.stderr, level=level, format="fastbars: %(message)s")
    # Each command loads only what it needs.
    from fastbars.cli import commands  # noqa: PLC0415

    try:
        return commands.COMMANDS[options.command](options)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (FastbarsError, OSError) as error:
        print(f"fastbars: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
