"""The options of the `fastbars` command and their values."""

from __future__ import annotations

import argparse
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import fastbars
from fastbars.cli.examples import epilog_of
from fastbars.cli.text import printable

__all__ = ["make_parser"]

_MOST_SYMBOLS = 100_000
_MOST_DIGITS = 18
_LARGEST = 1e9  # no rate, size or duration is larger

if TYPE_CHECKING:  # argparse has no public name for what `add_subparsers` returns
    _Commands = argparse._SubParsersAction["_Parser"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, without the usage."""
        self.exit(2, f"{self.prog}: {printable(message)} (see {self.prog} --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="fastbars", description="Exact OHLCV bars from every trade that exchanges send over WebSockets."
    )
    parser.add_argument("--version", action="version", version=f"fastbars {fastbars.__version__}")
    _add_verbosity(parser, "")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_demo, _add_replay, _add_record, _add_verify, _add_stream, _add_history, _add_symbols_command,
        _add_simulate, _add_check, _add_build, _add_resample, _add_run, _add_init, _add_status, _add_serve,
    ):  # fmt: skip
        add(commands)
    for name, command in commands.choices.items():
        _add_verbosity(command, "_behind")
        command.epilog = epilog_of(name)
        command.formatter_class = argparse.RawDescriptionHelpFormatter  # an example keeps its line
    return parser


def _add_demo(commands: _Commands) -> None:
    demo = commands.add_parser(
        "demo", help="stream from an embedded exchange, compare each bar with its candle, report the result"
    )
    demo.add_argument("--symbols", type=_positive_int, default=20, help="how many symbols (20)")
    demo.add_argument("--seconds", type=_positive_float, help="how long (15; with --web 600)")
    demo.add_argument("--rate", type=_positive_float, help="trades a second over all symbols (20000; with --web 1000)")
    demo.add_argument("--web", action="store_true", help="show it on a page instead, with connections that break")
    _add_page(demo)


def _add_page(command: argparse.ArgumentParser) -> None:
    command.add_argument("--port", type=_port, default=0, help="of the page; 0: any free one")
    command.add_argument("--no-browser", dest="browser", action="store_false", help="only print the page's address")


def _add_serve(commands: _Commands) -> None:
    serve = commands.add_parser("serve", help="show stored bars on a page; prints its address")
    serve.add_argument(
        "source", type=_text, metavar="URL", help="of a sink: parquet:DIR, duckdb:FILE, jsonl:FILE or csv:FILE"
    )
    serve.add_argument(
        "--host", type=_text, default="127.0.0.1", help="to listen on; others than loopback need a token"
    )
    serve.add_argument("--token-env", type=_text, metavar="NAME", help="environment variable with the token")
    _add_page(serve)


def _add_replay(commands: _Commands) -> None:
    replay = commands.add_parser("replay", help="make bars from recorded messages")
    replay.add_argument(
        "tapes",
        nargs="+",
        type=_path,
        metavar="TAPE",
        help="tapes (plain, gz or zst) or recordings, read as one stream",
    )
    replay.add_argument(
        "--exchange", type=_text, help="exchange of the messages, such as binance; recordings name theirs"
    )
    _add_output(replay, bars=None)


def _add_record(commands: _Commands) -> None:
    record = commands.add_parser(
        "record", help="record everything that a stream receives, until interrupted, for replay"
    )
    record.add_argument("exchange", type=_text, help="such as binance")
    _add_symbols(record)
    _add_source(record, bars="1m")
    record.add_argument("-o", "--output", type=_path, metavar="DIR", required=True, help="folder for the files")
    record.add_argument("--url", type=_text, help="connect here instead of the exchange's own address")
    record.add_argument("--seconds", type=_positive_float, help="stop after this long")
    record.add_argument(
        "--file-mb", type=_positive_float, default=256.0, help="start a new file beyond this size (256)"
    )
    record.add_argument("--file-s", type=_positive_float, default=3600.0, help="or beyond this age (3600)")
    record.add_argument(
        "--candles", action="store_true", help="also record the exchange's candles, for `fastbars verify`"
    )
    record.add_argument("--lines", type=_positive_int, default=1, help="connections that carry the same trades (1)")
    _add_repair(record)
    record.add_argument("--once", action="store_true", help="end when the server closes normally (code 1000)")


def _add_verify(commands: _Commands) -> None:
    verify = commands.add_parser("verify", help="compare bars of tapes or recordings with the exchange's candles")
    verify.add_argument("tapes", nargs="+", type=_path, metavar="TAPE", help="as for replay")
    verify.add_argument(
        "--exchange", type=_text, help="exchange of the messages, such as binance; recordings name theirs"
    )
    _add_source(verify, bars=None)
    verify.add_argument(
        "--klines",
        nargs="+",
        type=_path,
        default=[],
        metavar="FILE",
        help="also compare with candles downloaded from Binance's public archive: CSV, zip or gz",
    )


def _add_repair(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--repair",
        choices=("none", "candles"),
        default="none",
        help="issue bars that lack trades for good again: REPORTED, from the exchange's own candles (none)",
    )


def _add_stream(commands: _Commands) -> None:
    stream = commands.add_parser("stream", help="make bars live from an exchange, until interrupted")
    stream.add_argument("exchange", type=_text, help="such as binance")
    _add_symbols(stream)
    stream.add_argument(
        "--and",
        dest="others",
        nargs="+",
        action="append",
        default=[],
        type=_text,
        metavar=("VENUE", "SYMBOL"),
        help="symbols of another venue as well, such as --and bybit:linear BTCUSDT; may be repeated",
    )
    _add_output(stream)
    stream.add_argument(
        "--history",
        type=_span,
        metavar="SPAN",
        help="begin with bars of the past: how many intervals of each spec, such as 500, or a time, such as 3d",
    )
    stream.add_argument(
        "--history-from",
        choices=("trades", "candles"),
        help="what they are made of (trades, where they are few enough)",
    )
    stream.add_argument("--append", action="store_true", help="append to the bars in FILE instead of replacing them")
    stream.add_argument("--lines", type=_positive_int, default=1, help="connections that carry the same trades (1)")
    _add_repair(stream)
    stream.add_argument(
        "--verify",
        nargs="?",
        type=_fraction,
        const=1.0,
        metavar="SHARE",
        help="compare bars with the exchange's candles, for all symbols or a fraction; the result goes to stderr",
    )
    stream.add_argument(
        "--record", type=_path, metavar="DIR", help="record everything that bars are made from in this folder"
    )
    stream.add_argument(
        "--url",
        action="append",
        default=[],
        type=_text,
        metavar="URL",
        help="connect here instead of the exchange's own address; VENUE=URL for one behind --and",
    )
    stream.add_argument(
        "--close-by",
        choices=("clock", "trades"),
        default="clock",
        help="trades: bars are closed by trades only, not by watermark or clock",
    )
    stream.add_argument("--once", action="store_true", help="end when the server closes normally (code 1000)")


class _OtherSymbols(argparse.Action):
    # Instead of SYMBOL. Were its number of values "*", argparse would take none before the first option, and refuse
    # those behind it.
    def __call__(
        self, _: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, __: str | None = None
    ) -> None:
        setattr(namespace, self.dest, values)
        self.const.required = False


def _add_symbols(parser: argparse.ArgumentParser) -> None:
    symbols = parser.add_argument(
        "symbols", nargs="+", type=_text, metavar="SYMBOL", default=(),
        help="as the exchange writes them, or as on all exchanges: BTC/USDT, BTC/USDT:USDT",
    )  # fmt: skip
    parser.add_argument(
        "--symbols-from", type=_path, metavar="FILE", action=_OtherSymbols, const=symbols,
        help="also, or only, those in this file, one a line (-: stdin)",
    )  # fmt: skip
    parser.add_argument(
        "--where", type=_text, metavar="CHOICE", action=_OtherSymbols, const=symbols,
        help="instead: all instruments like quote=USDT,kind=perpetual,min_volume=1e6, whose list is looked at again"
        " every few minutes; also base, settle, inverse, name, exclude, and a|b for either of two values",
    )  # fmt: skip
    _add_rest_url(parser)


def _add_rest_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rest-url", type=_text, help="ask here instead of the exchange's own REST address")


def _add_symbols_command(commands: _Commands) -> None:
    symbols = commands.add_parser("symbols", help="list the instruments of an exchange")
    symbols.add_argument("exchange", type=_text, help="such as binance")
    symbols.add_argument("--market", type=_text, help=_MARKET_HELP)
    for name in ("base", "quote", "settle"):
        symbols.add_argument(f"--{name}", type=_texts, metavar="ASSET", help="such as USDT; several with commas")
    symbols.add_argument("--kind", type=_texts, help="spot, perpetual, future, option; several with commas")
    symbols.add_argument(
        "--status", default="trading", type=_text, help="trading, halted, delisted, not yet, or any (trading)"
    )
    settled = symbols.add_mutually_exclusive_group()
    settled.add_argument("--inverse", dest="inverse", action="store_true", default=None, help="inverse contracts only")
    settled.add_argument("--linear", dest="inverse", action="store_false", default=None, help="linear contracts only")
    symbols.add_argument("--name", type=_text, metavar="REGEX", help="regular expression that the whole symbol matches")
    symbols.add_argument("--min-volume", type=_text, metavar="N", help="least traded in 24 hours, in quote units")
    symbols.add_argument("--volume", action="store_true", help="also show what was traded in 24 hours")
    symbols.add_argument("--sort", type=_text, metavar="FIELD", help="such as listed_at or quote_volume (symbol)")
    symbols.add_argument("--descending", action="store_true", help="the largest value of that field first")
    symbols.add_argument(
        "--format", choices=("table", "csv", "jsonl", "names"), default="table",
        help="names: symbols alone, for --symbols-from (table)",
    )  # fmt: skip
    symbols.add_argument("-o", "--output", type=_path, metavar="FILE", help="write to this file instead of stdout")
    _add_rest_url(symbols)


def _add_build(commands: _Commands) -> None:
    build = commands.add_parser(
        "build", help="make bars of files of trades; interrupted, the same command goes on from where it was"
    )
    build.add_argument(
        "files", nargs="+", type=_path, metavar="FILE", help="as published: CSV, also in zip, gz or zst; or Parquet"
    )
    build.add_argument("--bars", type=_text, default="1m", help=f"{_BARS_HELP} (1m)")
    build.add_argument(
        "-o", "--output", type=_path, metavar="FILE", required=True,
        help="write to this file, or with --partition-by to this folder",
    )  # fmt: skip
    build.add_argument(
        "--format", choices=("parquet", "arrow", "csv", "jsonl"), help="of the output (by the suffix of FILE)"
    )
    build.add_argument(
        "--partition-by",
        type=_text,
        metavar="KEYS",
        help="divide a folder of Parquet files by these, with commas: exchange, market, spec, symbol, date",
    )
    places = build.add_mutually_exclusive_group()
    places.add_argument("--workers", type=_positive_int, default=1, help="processes (1)")
    places.add_argument(
        "--on", type=_text, metavar="ADDRESS",
        help="on a Ray cluster whose nodes see the same files: ray://HOST:PORT, HOST:PORT, or auto for this host's own",
    )  # fmt: skip
    build.add_argument(
        "--repair",
        nargs="?",
        const="rest",
        choices=("files", "rest"),
        help="fill what a file lacks from the others, and with rest, the default, from the exchange",
    )
    _add_rest(build)
    _add_files(build)


def _add_run(commands: _Commands) -> None:
    service = commands.add_parser("run", help="run as a service, as a configuration file says; SIGHUP reads it again")
    service.add_argument("file", type=_path, metavar="FILE", help="a TOML file; `fastbars init` writes an example")
    service.add_argument("--check", action="store_true", help="check the file, connect nothing, and end")


def _add_init(commands: _Commands) -> None:
    init = commands.add_parser("init", help="write an example of a configuration file, with comments")
    init.add_argument(
        "file", type=_path, nargs="?", default=Path("fastbars.toml"), metavar="FILE", help="to write (fastbars.toml)"
    )


def _add_status(commands: _Commands) -> None:
    status = commands.add_parser("status", help="show the counters of a running service; 1 where it is not ready")
    status.add_argument("url", type=_text, metavar="URL", help="of its web server, such as http://127.0.0.1:9100")
    status.add_argument("--token-env", type=_text, metavar="NAME", help="environment variable with its token")


def _add_resample(commands: _Commands) -> None:
    resample = commands.add_parser("resample", help="make larger bars of those in Parquet files")
    resample.add_argument(
        "files", nargs="+", type=_path, metavar="BARS", help="Parquet files of bars, or folders of them"
    )
    resample.add_argument(
        "--bars", type=_text, required=True, help="specs of the larger bars with commas, such as 1h,1d@America/New_York"
    )
    resample.add_argument("--exchange", type=_text, help="take the bars of this exchange alone, such as binance")
    resample.add_argument("--market", type=_text, help="and of this market, such as usdm")
    resample.add_argument(
        "--format",
        choices=("table", "parquet", "arrow", "csv", "jsonl"),
        help="of the output (by the suffix of FILE; on stdout, which can be csv or jsonl as well: table)",
    )
    resample.add_argument(
        "-o", "--output", type=_path, metavar="FILE", help="write to this file, or with --partition-by to this folder"
    )
    resample.add_argument(
        "--partition-by",
        type=_text,
        metavar="KEYS",
        help="divide a folder of Parquet files by these, with commas: exchange, market, spec, symbol, date",
    )


def _add_history(commands: _Commands) -> None:
    history = commands.add_parser("history", help="bars of the past alone")
    history.add_argument("exchange", type=_text, help="such as binance")
    history.add_argument("symbols", nargs="+", type=_text, metavar="SYMBOL", help="as the exchange writes them")
    _add_output(history)
    history.add_argument(
        "--last", type=_span, metavar="SPAN", help="how many intervals of each spec, or a time: 500, 3d"
    )
    history.add_argument(
        "--since", type=_time, metavar="TIME", help="instead: where they begin, such as 2026-01-31T12:00Z"
    )
    history.add_argument("--until", type=_time, metavar="TIME", help="where they end (now)")
    history.add_argument(
        "--history-from",
        choices=("trades", "candles"),
        help="what they are made of (trades, where they are few enough)",
    )
    history.add_argument("--rest-url", type=_text, help="ask here instead of the exchange's own REST address")


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(text, "not a time, such as 2026-01-31 or 2026-01-31T12:00Z") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _add_simulate(commands: _Commands) -> None:
    simulate = commands.add_parser("simulate", help="run the embedded exchange; prints its URL first")
    simulate.add_argument("--tape", nargs="+", type=_path, default=[], metavar="TAPE", help="serve these recordings")
    simulate.add_argument(
        "--exchange", type=_text, default="binance", help="exchange to simulate, such as bybit (binance)"
    )
    simulate.add_argument("--market", type=_text, help="such as usdm or linear (the exchange's first, mostly spot)")
    simulate.add_argument("--symbols", type=_positive_int, default=20, help="how many symbols (20)")
    simulate.add_argument("--rate", type=_positive_float, default=20_000.0, help="trades a second (20000)")
    simulate.add_argument("--seed", type=_seed, default=1, help="of the synthetic market (1)")
    simulate.add_argument("--port", type=_port, default=0, help="0: any free one")


def _add_check(commands: _Commands) -> None:
    check = commands.add_parser(
        "check",
        help="check files of trades for what is missing, doubled or contradictory; exit status 1 if there is any",
    )
    check.add_argument("files", nargs="+", type=_path, metavar="FILE", help="as published: CSV, also compressed")
    check.add_argument("--json", action="store_true", help="the whole result as JSON, each day and id range")
    check.add_argument(
        "--rest",
        action="store_true",
        help="ask the exchange for missing ids: does it have them, or publish them never?",
    )
    _add_rest(check)
    _add_files(check)


def _add_rest(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rest-url", type=_text, help="ask here instead of the exchange's own address")
    command.add_argument(
        "--api-key", type=_text, default=os.environ.get("FASTBARS_API_KEY") or None,
        help="sent where the exchange's history needs one (Binance futures); better in the environment, as"
        " FASTBARS_API_KEY: everybody on a machine sees command lines",
    )  # fmt: skip


def _add_files(command: argparse.ArgumentParser) -> None:
    # What files of trades are, where their names and headers do not say.
    command.add_argument("--exchange", type=_text, help="whose trades they are, if names and headers do not say")
    command.add_argument("--market", type=_text, help="likewise, such as usdm")
    command.add_argument("--symbol", type=_text, help="likewise, of all files")
    command.add_argument("--file-format", type=_text, help="of the files, such as binance-trades, if it is not found")
    command.add_argument(
        "--columns",
        type=_columns,
        metavar="ROLE=NAME,...",
        help="where the columns are, such as time=ts,price=px,size=qty",
    )
    command.add_argument("--time-unit", choices=("s", "ms", "us", "ns"), help="what integer times count")
    command.add_argument(
        "--ids", choices=("contiguous", "unique", "none"), help="what ids prove, if not what those of the format do"
    )


_MARKET_HELP = (
    "such as usdm or linear (the exchange's first, mostly spot); with a region such as spot@eea: okx has eea, us;"
    " bybit has tr, kz, ge, id, jp, eu, nl, ae"
)


_BARS_HELP = (
    "what ends a bar, several with commas: time (1s 5m 4h 1d 1w 1mo, 1d@America/New_York), a session"
    " (session:09:30-16:00@America/New_York, session:XNYS), or trades: tick:N volume:N value:N range:N renko:N delta:N"
    " cusum:N imbalance:tick:N runs:volume:N; @1d behind one of the latter begins it anew each day, or any other"
    " interval; volume:N:exact splits trades, runs:volume:N:adaptive adapts; +flow, +footprint:STEP tell what is inside"
)


def _add_verbosity(parser: argparse.ArgumentParser, where: str) -> None:
    # Allowed before and after the command, with separate names: in argparse the latter would override the former.
    parser.add_argument(
        "-v", "--verbose", dest=f"verbose{where}", action="count", default=0,
        help="log more (twice: everything) to stderr",
    )  # fmt: skip
    parser.add_argument(
        "-q", "--quiet", dest=f"quiet{where}", action="store_true", help="log errors only, and show no progress"
    )


def _add_source(parser: argparse.ArgumentParser, bars: str | None) -> None:
    default = bars or "as recorded, else 1m"
    parser.add_argument("--market", type=_text, help=_MARKET_HELP)
    parser.add_argument("--bars", type=_text, default=bars, help=f"{_BARS_HELP} ({default})")
    parser.add_argument(
        "--channel", type=_text, help="trade channel that bars are made from, such as trade or aggTrade"
    )


def _add_output(parser: argparse.ArgumentParser, bars: str | None = "1m") -> None:
    _add_source(parser, bars)
    parser.add_argument("--format", choices=("table", "csv", "jsonl"), default="table", help="of the bars (table)")
    parser.add_argument(
        "-o",
        "--output",
        type=_path,
        metavar="FILE",
        help="write to this file instead of stdout; an old one is replaced once the command has succeeded",
    )


def _wrong(text: str, what: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{printable(text[:40])} is {what}")


def _int(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _wrong(text or "''", what) from None


def _span(text: str) -> int | str:
    if not text.isdecimal():
        return text
    if len(text) > _MOST_DIGITS:
        raise _wrong(text, "too many bars")
    return int(text)


def _positive_int(text: str) -> int:
    value = _int(text, "not a whole number")
    if value < 1:
        raise _wrong(text, "not positive")
    if value > _MOST_SYMBOLS:
        raise _wrong(text, f"more than {_MOST_SYMBOLS:,}")
    return value


def _positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _wrong(text or "''", "not a number") from None
    if not 0 < value < math.inf:
        raise _wrong(text, "not positive")
    if value > _LARGEST:
        raise _wrong(text, f"more than {_LARGEST:,.0f}")
    return value


def _fraction(text: str) -> float:
    value = _positive_float(text)
    if value > 1:
        raise _wrong(text, "not a fraction: above 0 and at most 1")
    return value


def _port(text: str) -> int:
    value = _int(text, "not a port")
    if not 0 <= value < 65_536:
        raise _wrong(text, "not a port")
    return value


def _seed(text: str) -> int:
    return _int(text, "not a whole number")


def _text(text: str) -> str:
    # Under another locale the argument was not decoded as UTF-8.
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _texts(text: str) -> list[str]:
    return [_text(part).strip() for part in text.split(",")]


def _columns(text: str) -> dict[str, str]:
    from fastbars.archives.named import named_columns  # noqa: PLC0415 no other option needs it

    try:
        return named_columns(text)
    except fastbars.FastbarsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(text)
