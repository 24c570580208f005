"""The scanner as processors without SSE2 run it, eight bytes at a time in plain C: its tests pass there too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import fastbars

PACKAGE = Path(fastbars.__file__).parent
TESTS = Path(__file__).parent


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, check=False, env=os.environ | environment, capture_output=True, text=True, cwd=TESTS.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def plain_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fastbars whose scanner is compiled anew, without SSE2."""
    compiler, source = shutil.which("cc"), PACKAGE / "wire" / "scanner.c"
    if compiler is None or not source.exists():
        pytest.skip("needs a compiler, and a checkout in which fastbars was built")
    folder = tmp_path_factory.mktemp("plain")
    shutil.copytree(PACKAGE, folder / "fastbars", ignore=shutil.ignore_patterns("*.c", "__pycache__"))
    module = folder / "fastbars" / "wire" / f"scanner{sysconfig.get_config_var('EXT_SUFFIX')}"
    paths = [f"-I{path}" for path in (sysconfig.get_path("include"), PACKAGE / "kernel", PACKAGE / "wire")]
    assert "#define FB_SSE2 0" in run(compiler, "-E", "-dM", "-DFB_PLAIN", *paths, PACKAGE / "wire" / "text.h")
    run(compiler, "-O2", "-w", "-shared", "-fPIC", "-DFB_PLAIN", *paths, source, "-o", module)
    where = "import fastbars.wire.scanner as scanner; print(scanner.__file__)"
    assert run(sys.executable, "-c", where, PYTHONPATH=str(folder)).strip() == str(module)
    return folder


@pytest.mark.parametrize("name", ["test_scanner.py", "test_fuzz_targets.py"])
def test_the_plain_scanner_passes(plain_build: Path, name: str) -> None:
    pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    printed = run(*pytest_, TESTS / name, PYTHONPATH=str(plain_build), HYPOTHESIS_PROFILE="quick")
    assert " passed" in printed
    assert "skipped" not in printed
