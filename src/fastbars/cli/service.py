"""`fastbars run` and `fastbars init`."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

from fastbars.cli.console import Console
from fastbars.errors import FastbarsError
from fastbars.streams import run

__all__ = ["run_service", "write_example"]


def run_service(options: argparse.Namespace, console: Console) -> int:
    """Run until a signal, or with `--check` check the configuration. Raises FastbarsError, OSError."""
    try:
        from fastbars.service.config import read_config  # noqa: PLC0415 needs the service extra
        from fastbars.service.logs import set_up_logging  # noqa: PLC0415
        from fastbars.service.routes import routes_of  # noqa: PLC0415
        from fastbars.service.service import Service, open_streams  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise FastbarsError(f'fastbars run needs {error.name}: pip install "fastbars[service]"') from None
    path: Path = options.file
    config = read_config(path)
    if options.check:
        open_streams(config)
        symbols = {name: config.symbols(name) for name in config.venues}
        counted = ", ".join(
            f"{name} {f'{len(own)} symbols' if isinstance(own, list) else f'where {own}'}"
            for name, own in symbols.items()
        )
        console.say(f"{path}: {', '.join(config.specs)} of {counted}; sinks: {', '.join(config.sinks) or 'none'}")
        return 0
    set_up_logging(config.log)

    async def serve() -> None:
        service = Service(config, path, routes_of)
        service.take_signals()
        await service.run()

    run(serve())
    return 0


def write_example(options: argparse.Namespace, console: Console) -> int:
    """Write the commented example. Raises OSError: the file is there already, or cannot be written."""
    path: Path = options.file
    text = resources.files("fastbars.service").joinpath("example.toml").read_text(encoding="utf-8")
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    console.say(f"{path} written; next: fastbars run --check {path}")
    return 0
