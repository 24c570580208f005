"""`fastbars check`: exit status, table and JSON."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from random import Random

import pytest

from archive_faults import CHINESE, Archive, make_truth
from fastbars.archives.doctor import check
from fastbars.archives.findings import Kind
from fastbars.archives.report import as_json, as_table
from fastbars.cli import main
from fastbars.cli.options import make_parser


def an_archive(folder: Path, symbol: str = "BTCUSDT", *, without: range = range(0)) -> list[str]:
    archive = Archive(folder)
    truth = make_truth(Random(7), symbol, "spot", date(2024, 3, 4), 3, 30)
    source = archive.copy(truth, "daily")
    for day, rows in source.rows.items():
        source.rows[day] = [row for row in rows if row.first not in without]
    archive.write(source, Random(1), compress=False, header=False)
    return [str(path) for path in archive.files]


def test_a_sound_archive_ends_with_status_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *an_archive(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "binance spot BTCUSDT: 2024-03-04 to 2024-03-06, 3 days with trades; rows: 90 daily",
        "nothing is wrong, 0 notes: 3 files, 90 rows",
    ]


def test_what_is_wrong_is_one_line_and_the_status_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *an_archive(tmp_path, CHINESE, without=range(1010, 1013))]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"binance spot {CHINESE}: 2024-03-04 to 2024-03-06, 3 days with trades; rows: 87 daily",
        f"! 2024-03-04  missing{3:>28}  ids 1010-1012; of 27 rows; {CHINESE}-trades-2024-03-04.csv",
        "1 fault, 0 notes: 3 files, 87 rows",
    ]


def test_json_has_a_stable_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = an_archive(tmp_path, without=range(1010, 1013))
    assert main(["check", "--json", *files]) == 1
    found = json.loads(capsys.readouterr().out)
    series = {"exchange": "binance", "market": "spot", "symbol": "BTCUSDT", "dataset": "trades"}
    assert found == {
        "version": 1,
        "sound": False,
        "files": [
            {"path": path, "source": "daily", "rows": 27 if path == files[0] else 30, "series": [series]}
            for path in files
        ],
        "findings": [{
            "kind": "missing", "fault": True, "meaning": "ids that no file has", **series, "day": "2024-03-04",
            "until": None, "count": 3, "ranges": [[1010, 1012]], "files": [files[0]], "row": None, "detail": "",
        }],
        "days": [
            {**series, "day": f"2024-03-0{day}", "rows": {"daily": 27 if day == 4 else 30},
             "counts": {"missing": 3} if day == 4 else {}}
            for day in (4, 5, 6)
        ],
    }  # fmt: skip


def test_files_that_cannot_be_read_end_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "notes.csv"
    own.write_text("this,is\nno,trade\n")
    for path, wanted in (
        (own, "its format is not known"),
        (tmp_path / "BTCUSDT-trades-2024-03-04.csv", "cannot be read"),
    ):
        assert main(["check", str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert wanted in captured.err
    with pytest.raises(SystemExit) as ended:
        main(["check"])
    assert ended.value.code == 2


def test_columns_of_ones_own_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.csv"
    own.write_text("t,p,q,n\n2024-01-01T00:00:01Z,1.5,2,7\n2024-01-01T00:00:02Z,1.5,2,9\n")
    options = ["--columns", "time=t,price=p,size=q,id=n", "--symbol", "X", "--exchange", "mine"]
    assert main(["check", str(own), *options]) == 1
    assert "ids 8; of 2 rows" in capsys.readouterr().out
    assert main(["check", str(own), *options, "--ids", "none"]) == 0
    assert "no_ids" in capsys.readouterr().out


def test_many_lines_are_cut_off_in_the_table_alone(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    truth = make_truth(Random(7), "BTCUSDT", "usdm", date(2024, 1, 1), 60, 20, skips=0.3)
    archive.write(archive.copy(truth, "daily"), Random(1), compress=False, header=False)
    diagnosis = check(archive.files)
    lines = list(as_table(diagnosis))
    assert lines[-2] == f"  and {len(diagnosis.findings) - 40:,} more, which --json lists"
    assert len(lines) == 43
    assert len(json.loads(as_json(diagnosis))["findings"]) == len(diagnosis.findings) > 50


def test_every_kind_has_a_meaning_and_a_line_in_the_documentation() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "check-files.md").read_text(encoding="utf-8")
    for kind in Kind:
        assert kind.meaning
        assert f"| `{kind.value}` |" in page


def test_build_repairs_and_says_what_stays_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = an_archive(tmp_path, without=range(1010, 1013))
    assert main(["build", *files, "--repair", "files", "--bars", "1h", "-o", str(tmp_path / "bars.csv")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "binance spot BTCUSDT: ids 1010-1012 stay missing"
    assert lines[1].endswith("bars; 0 ids filled, 0 are unpublished, 0 have several contents, 3 stay missing")
    assert (tmp_path / "bars.csv").read_text().count(",GAP,") >= 1


@pytest.mark.parametrize("command", [["check"], ["build", "-o", "bars.csv"]])
def test_a_key_comes_from_the_environment_unless_one_is_given(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTBARS_API_KEY", "of the environment")
    assert make_parser().parse_args([*command, "a.csv"]).api_key == "of the environment"
    assert make_parser().parse_args([*command, "a.csv", "--api-key", "given"]).api_key == "given"
    monkeypatch.setenv("FASTBARS_API_KEY", "")
    assert make_parser().parse_args([*command, "a.csv"]).api_key is None
