"""The check that every wheel goes through finds what does not belong in a wheel."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import fastbars._agg

TOOLS = Path(__file__).resolve().parents[1] / "tools"
TOOL = TOOLS / "check_wheel.py"
SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
GOOD = {
    "fastbars/__init__.py": b"",
    "fastbars/py.typed": b"",
    "fastbars/_agg.pyi": b"",
    f"fastbars/_agg{SUFFIX}": b"",
    "fastbars-0.1.0.dist-info/licenses/LICENSE": b"",
    **{
        f"fastbars/service/web/{path.name}": path.read_bytes()
        for path in sorted((TOOLS.parent / "src/fastbars/service/web").iterdir())
    },
}


def load_tool(path: Path = TOOL) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def faults_of(folder: Path, files: dict[str, bytes], platform: str = "macosx_11_0_arm64") -> list[str]:
    path = folder / f"fastbars-0.1.0-cp311-cp311-{platform}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return list(load_tool().faults(path))


def test_a_wheel_with_all_that_belongs_in_it_has_no_fault(tmp_path: Path) -> None:
    assert faults_of(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("missing", "fault"),
    [
        ("fastbars/py.typed", "py.typed is missing"),
        ("fastbars/_agg.pyi", "fastbars/_agg.pyi is missing"),
        (f"fastbars/_agg{SUFFIX}", "no compiled module is inside"),
        ("fastbars-0.1.0.dist-info/licenses/LICENSE", "the license is missing"),
        ("fastbars/service/web/page.js", "fastbars/service/web/page.js is missing"),
        ("fastbars/service/web/NOTICE", "fastbars/service/web/NOTICE is missing"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, missing: str, fault: str) -> None:
    assert faults_of(tmp_path, {name: content for name, content in GOOD.items() if name != missing}) == [fault]


@pytest.mark.parametrize("stray", ["fastbars/_agg.c", "fastbars/_agg.pyx", "fastbars/int128.h", "tests/oracle.py"])
def test_what_does_not_belong_in_it_is_named(tmp_path: Path, stray: str) -> None:
    assert faults_of(tmp_path, GOOD | {stray: b""}) == [f"{stray} does not belong in it"]


def test_a_wheel_of_two_megabytes_is_too_large(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, GOOD | {"fastbars/large.py": b"#" * 2_000_000})
    assert fault.endswith("the limit is 2,000,000")


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="compiles an ELF file to look into"
)
def test_a_module_without_hardening_is_found(tmp_path: Path) -> None:
    pytest.importorskip("elftools", reason="pyelftools comes with the lint extra")
    source, built = tmp_path / "soft.c", tmp_path / "soft.so"
    source.write_text("int fastbars_soft(int a) { return a + 1; }\n")
    soft = ["-fno-stack-protector", "-Wl,-z,norelro,-z,lazy", "-Wl,-rpath,/somewhere"]
    subprocess.run(["cc", "-shared", "-fPIC", "-g", *soft, str(source), "-o", str(built)], check=True)
    name = f"fastbars/_agg{SUFFIX}"
    found = faults_of(tmp_path, GOOD | {name: built.read_bytes()}, "manylinux_2_17_x86_64")
    assert f"{name}: not full RELRO (-z relro -z now)" in found
    assert f"{name}: carries RUNPATH" in found
    assert f"{name}: not stripped, has .symtab" in found
    assert "no module was compiled with -fstack-protector-strong" in found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the headers of an ELF file")
def test_the_modules_that_run_here_are_hardened() -> None:
    pytest.importorskip("elftools", reason="pyelftools comes with the lint extra")
    file = fastbars._agg.__file__
    segments, flags, symbols, _ = load_tool().read_elf(Path(file).read_bytes())
    assert "PT_GNU_RELRO" in segments
    assert "BIND_NOW" in flags
    assert "__stack_chk_fail" in symbols


@pytest.mark.parametrize("filters", [True, False])
def test_an_sdist_is_unpacked_by_pythons_without_extraction_filters_too(
    filters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extract_all(archive: tarfile.TarFile, path: Path, **options: object) -> None:
        assert "filter" not in options  # Python 3.11.2 does not know it
        for member in archive.getmembers():
            archive.extract(member, path)

    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        monkeypatch.setattr(tarfile.TarFile, "extractall", extract_all)
    (tmp_path / "setup.py").write_text("pass\n")
    with tarfile.open(tmp_path / "sdist.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "setup.py", "fastbars-0.1.0/setup.py")
    load_tool(TOOLS / "build_wheel.py").unpack(tmp_path / "sdist.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "fastbars-0.1.0" / "setup.py").read_text() == "pass\n"
