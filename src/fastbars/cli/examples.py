"""Examples of each command: what `--help` ends with and the command reference shows, each run by a test."""

from __future__ import annotations

__all__ = ["EXAMPLES", "epilog_of"]

# The command lines of each command, and what they do.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "demo": (
        ("fastbars demo", "20 symbols for 15 seconds"),
        ("fastbars demo --symbols 500 --rate 100000", "as many trades as this machine takes"),
        ("fastbars demo --web", "on a page, with connections that break and gaps that heal"),
    ),
    "stream": (
        ("fastbars stream binance BTCUSDT ETHUSDT --bars 1m,5m", "a table, until Ctrl-C"),
        ("fastbars stream binance BTCUSDT --bars volume:50@1d --format csv -o bars.csv", "into a file"),
        ("fastbars stream binance BTCUSDT --and bybit:linear BTCUSDT --format jsonl", "two venues, one stream"),
        ("fastbars stream binance --market usdm --where quote=USDT,kind=perpetual", "all of them, as they are listed"),
        ("fastbars stream binance BTCUSDT --history 500 --repair candles", "begin with 500 bars of the past"),
    ),
    "replay": (
        ("fastbars replay tapes --bars 1m,1h", "what `fastbars record` recorded"),
        ("fastbars replay usdm_btcusdt.raw.gz --exchange binance --market usdm --format csv", "a tape of messages"),
    ),
    "record": (
        ("fastbars record binance BTCUSDT -o tapes", "until Ctrl-C"),
        ("fastbars record binance BTCUSDT -o tapes --candles --seconds 60", "with what `fastbars verify` needs"),
    ),
    "verify": (("fastbars verify tapes", "its bars against the exchange's candles"),),
    "history": (
        ("fastbars history binance BTCUSDT --last 3h --bars 5m --format csv -o past.csv", "of the last three hours"),
        ("fastbars history binance BTCUSDT --last 500 --history-from candles", "the exchange's own last 500 candles"),
    ),
    "symbols": (
        ("fastbars symbols binance --market usdm --quote USDT --kind perpetual", "a table"),
        ("fastbars symbols binance --quote USDT --format names -o symbols.txt", "for `--symbols-from`"),
    ),
    "simulate": (
        ("fastbars simulate --symbols 50 --rate 50000", "prints its URL; `fastbars stream --url URL` connects to it"),
        ("fastbars simulate --exchange bybit --market linear --port 9000", "in another exchange's dialect"),
    ),
    "check": (
        ("fastbars check BTCUSDT-trades-2024-03-07.csv", "missing, doubled and contradictory trades"),
        ("fastbars check BTCUSDT-trades-2024-03-07.csv --json", "each day and range of ids"),
    ),
    "build": (
        ("fastbars build BTCUSDT-trades-2024-03-07.csv --bars 1m,1h,volume:50@1d -o bars.parquet", "one file"),
        ("fastbars build BTCUSDT-trades-2024-03-07.csv -o bars --partition-by symbol,date", "a folder of files"),
    ),
    "resample": (
        ("fastbars resample bars.parquet --bars 1h,1d@America/New_York -o larger.parquet", "into a file"),
        ("fastbars resample bars.parquet --bars 4h", "a table"),
    ),
    "run": (
        ("fastbars run --check fastbars.toml", "say what is wrong with it, and end"),
        ("fastbars run fastbars.toml", "until SIGTERM or Ctrl-C"),
    ),
    "init": (("fastbars init", "writes fastbars.toml, a commented example"),),
    "serve": (
        ("fastbars serve parquet:bars", "what a sink has written; opens a browser"),
        ("fastbars serve duckdb:bars.duckdb --no-browser --port 9200", "only prints the page's address"),
    ),
    "status": (("fastbars status http://127.0.0.1:9100", "of the service with that web server"),),
}


def epilog_of(command: str) -> str:
    """What `--help` of a command ends with; empty where it has no examples."""
    lines = [f"  {line}\n      {what}" for line, what in EXAMPLES.get(command, ())]
    return "\n".join(["examples:", *lines]) if lines else ""
