"""Other libraries, each in an environment and a process of its own, that work when they are asked to."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
WORK = HERE.parents[1] / "build" / "peers"
INSTALL_SECONDS = 300

# What pip is asked for, besides the peer's own name; the rest runs in the project's own environment.
PEERS: dict[str, list[str]] = {
    "nautilus_trader": [],
    "finmlkit": [],
    "tickbar": ["numpy"],
    "polars": ["numpy"],
    "duckdb": ["numpy", "pyarrow"],
    "numba": ["numpy"],
    "websockets": ["orjson", "uvloop"],
    "picows": ["orjson", "uvloop"],
    "aiohttp": ["orjson", "uvloop"],
}


def python_of(peer: str, shared: bool = False) -> Path | None:
    """The interpreter of the peer's environment; None where it cannot be installed, which is printed.

    Args:
        peer: of PEERS, or anything that needs no more than the project's own environment.
        shared: use the project's own environment if it has the peer.
    """
    if peer not in PEERS or (shared and find_spec(peer)):
        return Path(sys.executable)
    place = WORK / "venv" / peer
    python = place / "bin" / "python"
    if not (place / ".installed").exists():
        print(f"installing {peer} into {place}", flush=True)
        shutil.rmtree(place, ignore_errors=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", peer, *PEERS[peer]]
        try:
            venv.create(place, with_pip=True)
            subprocess.run(command, capture_output=True, check=True, timeout=INSTALL_SECONDS, text=True)
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            print(f"{peer} could not be installed: {said[-1] if said else error!r}", flush=True)
            return None
        (place / ".installed").touch()
    return python


def version_of(peer: str, python: Path) -> str:
    """What is installed there."""
    if peer != "fastbars" and peer not in PEERS:
        return ""
    code = f"from importlib.metadata import version; print(version({peer!r}))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@dataclass
class Job:
    """One thing that one library does."""

    peer: str
    function: str
    computes: str = ""
    only: str = ""  # what sets it apart from the same library's other row
    ahead: str = ""  # why it may be faster than fastbars
    times_ns: list[float] = field(default_factory=list)
    fault: str = ""

    @property
    def median_ns(self) -> float:
        """Of the rounds."""
        return statistics.median(self.times_ns)


class Worker:
    """A process that works when it is asked to; whatever goes wrong stands in the job's `fault`."""

    def __init__(self, python: Path, job: Job, folder: Path, url: str = "") -> None:
        self.job = job
        self.log = (folder / f"{job.function}.log").open("w")
        words = [str(word) for word in (python, HERE / "worker.py", job.function, folder, url)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=folder
        )
        self.works = self._answer() is not None

    def run(self, order: str = "") -> None:
        """A round, whose time is kept; or what else the line `order` asks for."""
        if not self.works:
            return
        pipe: IO[str] | None = self.process.stdin
        assert pipe is not None
        try:
            pipe.write(order + "\n")
            pipe.flush()
        except OSError:
            self.works = False
            return
        answer = self._answer()
        self.works = answer is not None
        if answer is not None and not order:
            self.job.times_ns.append(answer["ns"])

    def close(self) -> None:
        """Ends it, and says what went wrong if something did."""
        if not self.works:
            self.log.flush()
            said = Path(self.log.name).read_text().strip().splitlines() or ["no output"]
            self.job.fault = f"does not run: {said[-1][:80]}"
        try:
            self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def _answer(self) -> dict[str, float] | None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(("{", "null")):  # libraries print too, when they are imported
                found: dict[str, float] | None = json.loads(line)
                return found
        return None


def difference(folder: Path, job: str, expected: dict[str, npt.NDArray[Any]]) -> str:
    """How what a job of columns wrote differs from the bars expected (by symbol, then time); empty: not at all."""
    with np.load(folder / f"{job}.npz") as made:
        for name in made.files:
            if not np.array_equal(made[name], expected[name]):
                return f"{job} makes other bars than fastbars: {name} differs, {len(made[name])} bars"
    return ""
