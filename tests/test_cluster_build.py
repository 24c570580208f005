"""Files to bars on a Ray cluster whose workers and nodes die: the same bytes as alone, each file once.

Runs where Ray is installed: pip install "fastbars[ray]".

    python -m tests.test_cluster_build --files 200      the long form
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from fastbars.archives.building import BuildProgress, build
from fastbars.archives.formats import recognise
from fastbars.cluster.executor import ATTEMPTS, RayExecutor, connect
from fastbars.errors import FastbarsError, TapeError

pytest.importorskip("ray", reason='Ray comes with an extra: pip install "fastbars[ray]"')
pytestmark = pytest.mark.real_clock

DAY_MS = 86_400_000
START_MS = 1_735_689_600_000
SPECS = ("1m", "1h")


def write_days(folder: Path, count: int, rows: int = 20_000) -> list[Path]:
    """Files of trades with consecutive ids, a day each."""
    files, number = [], 0
    for day in range(count):
        date = time.strftime("%Y-%m-%d", time.gmtime(START_MS / 1000 + day * 86_400))
        path = folder / f"BTCUSDT-trades-{date}.csv"
        with path.open("w") as out:
            for row in range(rows):
                ms = START_MS + day * DAY_MS + row * (DAY_MS // rows)
                out.write(f"{number},{100 + number % 97}.5,0.{1 + number % 9},0,{ms}000,{number % 2 == 0},True\n")
                number += 1
        files.append(path)
    return files


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1:no"])
def test_what_is_no_cluster_is_refused(address: str) -> None:
    with pytest.raises(FastbarsError):
        RayExecutor(address)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000})
    made.add_node(num_cpus=1, object_store_memory=80_000_000)
    ray: Any = connect(made.address)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def busy_workers() -> list[int]:
    """Processes of this one's cluster that are making bars just now."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and (folder / "cmdline").read_bytes().startswith(b"ray::fold_unit"):
                pid = int(folder.name)
                while pid > 1 and pid != os.getpid():
                    pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
                if pid == os.getpid():
                    found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def test_the_same_bytes_as_alone_while_workers_are_killed(cluster: Any, tmp_path: Path) -> None:
    killed = run_killed(cluster, tmp_path, files=8, seed=1, most=4)
    assert killed > 0


def test_an_error_of_a_task_is_its_own(cluster: Any) -> None:
    executor = RayExecutor(cluster.address)
    with pytest.raises(TapeError, match=r"^bars\.txt"):
        executor.submit(recognise, "bars.txt").result()


def test_a_task_that_kills_each_worker_ends(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ATTEMPTS > 2
    monkeypatch.setattr("fastbars.cluster.executor.ATTEMPTS", 2)
    with pytest.raises(FastbarsError, match="begun 2 times at most, and its worker died each time"):
        RayExecutor(cluster.address).submit(os.abort).result()


def test_what_is_cancelled_runs_no_more(cluster: Any) -> None:
    executor = RayExecutor(cluster.address)
    futures = [executor.submit(time.sleep, 0.2) for _ in range(50)]
    executor.shutdown(cancel_futures=True)
    assert sum(future.cancelled() for future in futures) > 40


def run_killed(cluster: Any, folder: Path, *, files: int, seed: int, most: int, lose_node: bool = False) -> int:
    """Build while workers are killed at random; compare with a build alone. Returns how many were killed."""
    paths = write_days(folder, files)
    build(paths, SPECS, folder / "alone.parquet")
    executor = RayExecutor(cluster.address)
    random, killed, ended = Random(seed), 0, threading.Event()

    def kill() -> None:
        nonlocal killed
        while killed < most and not ended.wait(random.uniform(0.02, 0.2)):
            pids = busy_workers()
            if pids:
                with suppress(ProcessLookupError):
                    os.kill(random.choice(pids), signal.SIGKILL)
                    killed += 1

    def lose(progress: BuildProgress) -> None:  # in the main thread, where alone a node can be begun
        nonlocal lose_node
        if lose_node and 3 * progress.files > files:
            lose_node = False
            cluster.remove_node(cluster.worker_nodes.copy().pop())
            cluster.add_node(num_cpus=1, object_store_memory=80_000_000)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        report = build(paths, SPECS, folder / "cluster.parquet", workers=executor, on_progress=lose)
    finally:
        ended.set()
        killer.join()
    assert (folder / "alone.parquet").read_bytes() == (folder / "cluster.parquet").read_bytes()
    manifest = orjson.loads((folder / "cluster.parquet.manifest.json").read_bytes())
    assert sorted(one["path"] for one in manifest["files"]) == sorted(map(str, paths))
    assert report.files == len(paths)
    return killed


def main() -> int:
    """Run the long form."""
    from ray.cluster_utils import Cluster

    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 80_000_000})
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=80_000_000)
    ray: Any = connect(made.address)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        killed = run_killed(
            made, Path(folder), files=options.files, seed=options.seed, most=options.files, lose_node=True
        )
        print(f"{options.files} files, {killed} workers killed, one node lost: the same bytes, each file once,"
              f" {time.monotonic() - began:.0f} s")  # fmt: skip
    ray.shutdown()
    made.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
