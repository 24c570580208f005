"""Fuzz the compiled readers: build them with clang's sanitizers, and run each target under libFuzzer.

    python tools/run_fuzzers.py --seconds 120           # all targets in that time together, and odd calls
    python tools/run_fuzzers.py --seconds 600 numbers   # one of them
    python tools/run_fuzzers.py --runs 10000000         # so many inputs for each target, however long it takes
    python tools/run_fuzzers.py numbers --replay FILE   # replay one input
    python tools/run_fuzzers.py --pytest tests/test_state.py ...   # tests, with the sanitized modules

AddressSanitizer and UndefinedBehaviorSanitizer watch the extension modules; their results are compared with slower
reference code in fuzz/targets.py. A finding is written to build/fuzz/findings and ends the run with status 1.

Source: https://llvm.org/docs/LibFuzzer.html
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "fuzz"
FINDINGS = BUILD / "findings"
# Longest input in bytes, large enough to reach all of a target's code; 4,096 for the others.
LONGEST = {"scanner": 65_536, "walker": 65_536, "recording": 65_536, "tape": 16_384, "rest": 16_384, "snapshot": 256}
ODD_CALLS = 6_000
ODD_SEEDS = 4
COMPILERS = ("clang", *(f"clang-{version}" for version in range(21, 13, -1)))
SANITIZERS = (
    "-fno-sanitize-recover=undefined", f"-fsanitize-ignorelist={ROOT / 'fuzz' / 'ignorelist.txt'}",
    "-fno-omit-frame-pointer", "-g1", "-O1",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The result of one target."""

    target: str
    executions: int
    coverage: int
    seconds: float
    failed: bool
    log: str


def find_compiler() -> str:
    """A clang that has libFuzzer. Exits with a message where there is none."""
    probe = "int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return 0; }"
    for name in COMPILERS:
        command = [name, "-fsanitize=fuzzer,address", "-x", "c", "-", "-o", os.devnull]
        if shutil.which(name) is None:
            continue
        tried = subprocess.run(command, check=False, input=probe, text=True, capture_output=True)
        if tried.returncode == 0:
            return name
    sys.exit("fuzzing needs clang with its sanitizer runtime (Debian: clang and libclang-rt-14-dev)")


def build(compiler: str) -> Path:
    """Build the extension modules and the harness; returns the harness."""
    BUILD.mkdir(parents=True, exist_ok=True)
    flags = " ".join(("-fsanitize=fuzzer-no-link,address,undefined", *SANITIZERS))
    environment = os.environ | {"CC": compiler, "LDSHARED": f"{compiler} -shared", "CFLAGS": flags, "LDFLAGS": ""}
    setup: list[str | Path] = [
        sys.executable,
        "setup.py",
        "-q",
        "build",
        "-j2",
        "--build-base",
        BUILD / "base",
        "--build-lib",
        BUILD / "lib",
    ]
    subprocess.run(setup, cwd=ROOT, env=environment, check=True)
    harness = BUILD / "harness"
    config = sysconfig.get_config_vars()
    version, library = config["LDVERSION"], config["LIBDIR"]
    subprocess.run(
        [
            compiler, "-fsanitize=fuzzer,address,undefined", *SANITIZERS, f"-I{sysconfig.get_path('include')}",
            ROOT / "fuzz" / "harness.c", "-o", harness, f"-L{library}", f"-lpython{version}",
            *config["LIBS"].split(), *config["SYSLIBS"].split(), f"-Wl,-rpath,{library}", "-rdynamic",
        ],
        check=True,
    )  # fmt: skip
    return harness


def environment_of(target: str) -> dict[str, str]:
    path = os.pathsep.join([str(BUILD / "lib"), str(ROOT), str(ROOT / "tests"), *filter(None, sys.path[1:])])
    return os.environ | {
        "PYTHONPATH": path,
        "PYTHONMALLOC": "malloc",  # so that AddressSanitizer sees every block
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16:malloc_context_size=2"
        ":max_malloc_fill_size=0",
        "FUZZ_TARGET": target,
    }


def fuzz(harness: Path, target: str, seconds: float, runs: int | None = None) -> Outcome:
    """Run one target for a time or a number of inputs, from its seeds and the corpus of earlier runs."""
    corpus = BUILD / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    begun_s = time.monotonic()
    command: list[str | Path] = [
        harness, corpus, f"-max_total_time={round(seconds)}" if runs is None else f"-runs={runs}",
        f"-max_len={LONGEST.get(target, 4096)}", "-timeout=20", "-rss_limit_mb=4096",
        "-print_final_stats=1", f"-artifact_prefix={FINDINGS}/{target}-",
    ]  # fmt: skip
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment_of(target), capture_output=True, text=True, errors="replace"
    )
    log = done.stderr
    executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", log)
    coverage = re.findall(r"cov: (\d+)", log)
    return Outcome(
        target, int(executions[1]) if executions else 0, int(coverage[-1]) if coverage else 0,
        round(time.monotonic() - begun_s),
        done.returncode != 0, log,
    )  # fmt: skip


def sanitized(compiler: str) -> dict[str, str]:
    """The environment of a Python that has the sanitized modules: the sanitizer's runtime must be loaded first."""
    found = subprocess.run(
        [compiler, "-print-file-name=libclang_rt.asan-x86_64.so"], check=True, capture_output=True, text=True
    )
    return environment_of("") | {"LD_PRELOAD": found.stdout.strip()}


def call_oddly(compiler: str) -> list[str]:
    """Everything that Python can call, with odd arguments, under the sanitizers; returns the findings."""
    found = []
    for seed in range(ODD_SEEDS):
        log = BUILD / f"odd-calls-{seed}"
        command: list[str | Path] = [
            sys.executable,
            "-W",
            "ignore",
            ROOT / "tests" / "odd_calls.py",
            str(100 + seed),
            str(ODD_CALLS),
        ]
        environment = sanitized(compiler) | {"ODD_CALLS_LOG": str(log)}
        done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            last = log.read_text().splitlines()[-1:] if log.exists() else []
            found.append(f"odd calls, seed {100 + seed}, {last}:\n{done.stderr[-6000:]}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("targets", nargs="*", help="names in fuzz/targets.py; all by default")
    parser.add_argument("--seconds", type=int, default=120, help="for the whole run (default 120)")
    parser.add_argument("--runs", type=int, help="inputs of each target, instead of a time")
    parser.add_argument(
        "--pytest", nargs=argparse.REMAINDER, help="run tests with the sanitized modules: its arguments"
    )
    parser.add_argument("--replay", type=Path, help="run this one input through one target")
    options = parser.parse_args()
    compiler = find_compiler()
    harness = build(compiler)
    if options.pytest is not None:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options.pytest]
        return subprocess.run(command, check=False, cwd=ROOT, env=sanitized(compiler)).returncode
    if options.replay is not None:
        (target,) = options.targets
        command = [harness, options.replay]
        return subprocess.run(command, check=False, cwd=ROOT, env=environment_of(target)).returncode
    FINDINGS.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(
        [sys.executable, "-m", "fuzz.seeds", BUILD / "corpus"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "tests")}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    targets = options.targets or listed.stdout.split()
    at_once = min(os.cpu_count() or 1, len(targets))
    seconds = options.seconds * at_once / len(targets)  # they share the time
    with ThreadPoolExecutor(at_once) as pool:
        outcomes = list(pool.map(lambda target: fuzz(harness, target, seconds, options.runs), targets))
    found = [] if options.targets else call_oddly(compiler)
    for text in found:
        print(text)
    for outcome in outcomes:
        if outcome.failed:
            print(outcome.log[-6000:])
    for outcome in outcomes:
        verdict = "FOUND SOMETHING (see above, and build/fuzz/findings)" if outcome.failed else "nothing found"
        print(
            f"{outcome.target:<12} {outcome.executions:>12,} executions in {outcome.seconds} s,"
            f" {outcome.coverage:,} edges: {verdict}"
        )
    if not options.targets:
        print(f"odd calls    {'FOUND SOMETHING (see above)' if found else 'nothing found'}")
    return int(bool(found) or any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
