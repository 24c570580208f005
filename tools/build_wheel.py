"""`make wheel`: sdist -> wheel -> repaired wheel, twice with the same bytes; installed without a compiler; tested.

    python tools/build_wheel.py

1. Builds the sdist, and from it, in two folders, the wheel; both must have the same bytes (SOURCE_DATE_EPOCH is the
   time of the last commit, unless it is set).
2. auditwheel gives it a manylinux tag and strips it; tools/check_wheel.py inspects it.
3. Installs it into a new environment whose PATH has nothing but that environment, with an empty HOME, and runs the
   tests and `fastbars demo` from the unpacked sdist, where nothing is compiled.
4. Prints what cibuildwheel would build for the platforms that are not this one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
WORK = PROJECT / "build" / "wheel"
PLATFORMS = {"linux": "x86_64,aarch64", "macos": "x86_64,arm64", "windows": "AMD64"}


def run(*command: object, env: dict[str, str] | None = None, cwd: Path = PROJECT) -> None:
    """Print and run a command; exit if it fails."""
    words = [str(word) for word in command]
    print("+", " ".join(words), flush=True)
    if (status := subprocess.run(words, env=env, cwd=cwd, check=False).returncode) != 0:
        sys.exit(f"{words[0]} ended with {status}")


def only(folder: Path, pattern: str) -> Path:
    """The only file of that pattern that a step has left."""
    (path,) = folder.glob(pattern)
    return path


def unpack(sdist: Path, folder: Path) -> None:
    """Unpack an sdist; it is our own, so that Python before 3.11.4, which has no filters, may do it as well."""
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)


def build_environment() -> dict[str, str]:
    """The environment of builds: a fixed time, and a linker command without paths of this machine's Python."""
    env = dict(os.environ)
    if "SOURCE_DATE_EPOCH" not in env:
        last = subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=PROJECT, capture_output=True, text=True, check=True
        )
        env["SOURCE_DATE_EPOCH"] = last.stdout.strip()
    env.setdefault("LDSHARED", "cc -shared")
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    return env


def build(env: dict[str, str]) -> tuple[Path, Path]:
    """(sdist, repaired wheel), the wheel built twice with the same bytes."""
    run(sys.executable, "-m", "build", "--sdist", "--outdir", WORK / "sdist", env=env)
    sdist = only(WORK / "sdist", "*.tar.gz")
    digests = []
    for folder in ("first", "second"):
        unpack(sdist, WORK / folder / "source")
        source = only(WORK / folder / "source", "fastbars-*")
        run(sys.executable, "-m", "build", "--wheel", "--outdir", WORK / folder, source, env=env)
        wheel = only(WORK / folder, "*.whl")
        run(sys.executable, "-m", "auditwheel", "repair", "--strip", "-w", WORK / folder / "dist", wheel, env=env)
        digests.append(hashlib.sha256(only(WORK / folder / "dist", "*.whl").read_bytes()).hexdigest())
    if digests[0] != digests[1]:
        sys.exit(f"the same source gave different bytes: {digests[0]} and {digests[1]}")
    print(f"built twice, the same bytes: sha256 {digests[0]}", flush=True)
    return sdist, only(WORK / "first" / "dist", "*.whl")


def install(wheel: Path) -> tuple[Path, dict[str, str]]:
    """A new environment with the wheel in it, and the variables to run it with: no compiler, an empty HOME."""
    home, place = WORK / "home", WORK / "installed"
    home.mkdir()
    venv.create(place, with_pip=True)
    # pip's own settings say where packages come from on this machine.
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    env = {"PATH": str(place / "bin"), "HOME": str(home), "LANG": "C.UTF-8"}
    for compiler in ("cc", "gcc", "clang", "c++", "make", "ld"):
        assert shutil.which(compiler, path=env["PATH"]) is None, compiler
    python = place / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", f"{wheel}[test]", env=env | pip)
    return python, env


def main() -> None:
    """Run all steps; the first failure stops."""
    shutil.rmtree(WORK, ignore_errors=True)
    sdist, wheel = build(build_environment())
    libc, version = platform.libc_ver()
    fortified = ["--fortified"] if libc == "glibc" and tuple(map(int, version.split("."))) >= (2, 34) else []
    run(sys.executable, PROJECT / "tools" / "check_wheel.py", *fortified, wheel)
    python, env = install(wheel)
    unpacked = only(WORK / "first" / "source", "fastbars-*")
    for left in [*unpacked.rglob("*.so"), *unpacked.rglob("*.c")]:
        left.unlink()
    env["FASTBARS_TAPES"] = os.environ.get("FASTBARS_TAPES", str(PROJECT.parent / "shared" / "tapes"))
    where = "import fastbars, sys; assert fastbars.__file__.startswith(sys.prefix), fastbars.__file__"
    run(python, "-c", where, env=env, cwd=unpacked)
    side_by_side = ("--numprocesses=auto", "--dist=worksteal")
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *side_by_side, env=env, cwd=unpacked)
    run(python.with_name("fastbars"), "demo", env=env, cwd=WORK / "home")
    for path in (sdist, wheel):
        (PROJECT / "dist").mkdir(exist_ok=True)
        shutil.copy2(path, PROJECT / "dist")
        print(f"dist/{path.name}: {path.stat().st_size:,} bytes")
    for name, archs in PLATFORMS.items():
        print(
            f"cibuildwheel builds for {name} (here only {platform.machine()} {sys.implementation.cache_tag} was run):"
        )
        run(sys.executable, "-m", "cibuildwheel", "--platform", name, "--archs", archs, "--print-build-identifiers")


if __name__ == "__main__":
    main()
