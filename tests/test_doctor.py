"""The doctor against archives with known faults: all are found, and none is invented."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings, strategies as st

from archive_faults import CHINESE, HEADERS, Archive, Key, Source, make_truth, next_day
from examples import examples
from fastbars.archives.doctor import check
from fastbars.archives.findings import Diagnosis, Finding, Kind

BY_IDS = {
    Kind.MISSING, Kind.MISSING_OR_UNPUBLISHED, Kind.UNPUBLISHED, Kind.LACKS, Kind.REPEATED, Kind.CONFLICTING,
    Kind.DIFFERS,
}  # fmt: skip
# What depends on how long files are by chance, or on how they are packed.
BESIDE = {Kind.HEADER, Kind.TIME_GOES_BACK, Kind.PRECISION, Kind.TIME_UNIT}


NOT_BY_IDS = {"late", "day_absent", "outside_period", "malformed", "header", "checksum"}


def source_of(finding: Finding) -> str:
    (source,) = {"monthly" if "/monthly/" in path else "daily" for path in finding.files}
    return source


def as_ledger(diagnosis: Diagnosis) -> tuple[dict[Key, set[int]], dict[Key, int]]:
    """The findings in the words of the archive's ledger."""
    found: dict[Key, set[int]] = defaultdict(set)
    counted: dict[Key, int] = defaultdict(int)
    for finding in diagnosis.findings:
        source = ""
        if finding.kind in (Kind.LACKS, Kind.LATE, Kind.VOID):
            source = source_of(finding)
        elif finding.kind in (Kind.MALFORMED, Kind.CHECKSUM) or finding.detail == "inside":
            source = Path(finding.files[0]).stem
        key = Key(finding.kind.value, finding.series.symbol if finding.series else "", finding.day, source)
        if finding.kind in BY_IDS:
            for first, last in finding.ranges:
                found[key].update(range(first, last + 1))
        elif finding.kind not in BESIDE or finding.detail == "inside":
            counted[key] += finding.count
    return dict(found), dict(counted)


def expected(archive: Archive, sources: list[Source]) -> tuple[dict[Key, set[int]], dict[Key, int]]:
    """The ledger, with what the truth itself has: ids that nobody publishes, and void ones."""
    found = {key: set(ids) for key, ids in archive.found.items()}
    counted = {key: count for key, count in archive.counted.items() if key.kind in NOT_BY_IDS}
    truths = {source.truth.symbol: source.truth for source in sources}
    names = {source.name for source in sources}
    for truth in truths.values():
        rows = sorted(truth.rows)
        for before, behind in pairwise(rows):
            skipped = set(range(before.last + 1, behind.first))
            if not skipped or any(skipped <= ids for key, ids in found.items() if key.symbol == truth.symbol):
                continue
            kind = "unpublished" if len(names) > 1 else "missing_or_unpublished"
            found.setdefault(Key(kind, truth.symbol, before.day, ""), set()).update(skipped)
    for source in sources:
        if source.name == "monthly":
            # What the months have beyond the trades: no id proves that nothing was traded then.
            began, ended = min(source.rows), max(source.rows)
            if min(row.first for row in source.rows[began]) > 1 and began.day > 1:
                counted[Key("day_absent", source.truth.symbol, began.replace(day=1), "")] = began.day - 1
            next_month = (ended.replace(day=28) + timedelta(days=4)).replace(day=1)
            counted[Key("day_absent", source.truth.symbol, next_day(ended), "")] = (next_month - ended).days - 1
        for row in (row for rows in source.rows.values() for row in rows if not row.size):
            key = Key("void", source.truth.symbol, row.day, source.name)
            counted[key] = counted.get(key, 0) + 1
    return found, counted


def infect(archive: Archive, random: Random) -> list[Source]:
    """Write an archive with faults; returns its sources."""
    sources: list[Source] = []
    both = random.random() < 0.5
    for symbol in random.sample(("BTCUSDT", CHINESE, "1000PEPEUSDT"), random.choice((1, 1, 2))):
        market = random.choice(("spot", "usdm"))
        aggregated = archive.kind == "aggTrades"
        truth = make_truth(
            random, symbol, market, random.choice((date(2024, 12, 30), date(2024, 2, 28))), 4, random.choice((12, 40)),
            skips=0.04 if market == "usdm" else 0.0, voids=random.choice((0.0, 0.05)), aggregated=aggregated,
            first_id=random.choice((1, 4_090, 10**12)),
        )  # fmt: skip
        own = [archive.copy(truth, "daily")]
        if both:
            own.append(archive.copy(truth, "monthly"))
        for _ in range(random.randrange(6)):
            source = random.choice(own)
            others = [other for other in own if other is not source]
            fault = random.randrange(7)
            if fault == 0:
                source.drop(random, others)
            elif fault == 1:
                source.repeat(random, other_content=False)
            elif fault == 2:
                source.repeat(random, other_content=True)
            elif fault == 3:
                source.move(random)
            elif fault == 4:
                source.drop_day(random, others)
            elif fault == 5:
                source.misdate(random, others)
            elif others:
                source.change(random)
        sources += own
    for source in sources:
        archive.write(source, random, faults=True)
    return sources


@settings(max_examples=examples(80))
@given(st.integers(0, 2**32), st.sampled_from(["trades", "aggTrades"]))
def test_every_fault_is_found_and_none_is_invented(seed: int, kind: str) -> None:
    random = Random(seed)
    with TemporaryDirectory() as folder:
        archive = Archive(Path(folder), kind)
        sources = infect(archive, random)
        random.shuffle(archive.files)
        assert as_ledger(check(archive.files)) == expected(archive, sources)


def an_archive(folder: Path, market: str = "spot", *, rows: int = 30, first: date = date(2024, 3, 4)) -> Archive:
    archive = Archive(folder)
    truth = make_truth(Random(7), "BTCUSDT", market, first, 3, rows)
    archive.write(archive.copy(truth, "daily"), Random(1), compress=False, header=False)
    return archive


def kinds(diagnosis: Diagnosis) -> list[str]:
    return [finding.kind.value for finding in diagnosis.findings]


def test_a_sound_archive_has_no_findings(tmp_path: Path) -> None:
    diagnosis = check(an_archive(tmp_path).files)
    assert (kinds(diagnosis), diagnosis.is_sound) == ([], True)
    ((name, days),) = diagnosis.days.items()
    assert str(name) == "binance spot BTCUSDT"
    assert {str(day): report.rows for day, report in days.items()} == {
        "2024-03-04": {"daily": 30}, "2024-03-05": {"daily": 30}, "2024-03-06": {"daily": 30},
    }  # fmt: skip


def test_a_zip_that_was_cut_off_is_damaged_and_its_rest_is_missing(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    truth = make_truth(Random(7), "BTCUSDT", "spot", date(2024, 3, 4), 3, 2_000)
    archive.write(archive.copy(truth, "daily"), Random(1), compress=True, header=False)
    path = archive.files[1]
    path.write_bytes(path.read_bytes()[:-20_000])
    diagnosis = check(archive.files)
    assert (Kind.DAMAGED in {finding.kind for finding in diagnosis.findings}, diagnosis.is_sound) == (True, False)
    (damaged,) = diagnosis.of(Kind.DAMAGED)
    assert damaged.files == (str(path),)
    missing = diagnosis.of(Kind.MISSING)
    assert sum(finding.count for finding in missing) + sum(file.rows for file in diagnosis.files) == 6_000


def test_a_wrong_checksum_is_found(tmp_path: Path) -> None:
    archive = an_archive(tmp_path)
    for path in archive.files:
        beside = path.with_name(f"{path.name}.CHECKSUM")
        beside.write_text(f"{'0' * 64}  {path.name}\n" if path is archive.files[1] else "no sum\n")
        if path is archive.files[2]:
            beside.unlink()
    found = check(archive.files).of(Kind.CHECKSUM)
    assert [finding.files[0] for finding in found] == [str(path) for path in archive.files[:2]]
    assert "says 0000" in found[1].detail
    assert found[0].detail.endswith("has no sha256")


def test_an_empty_file_is_found_and_so_is_what_it_lacks(tmp_path: Path) -> None:
    archive = an_archive(tmp_path)
    archive.files[1].write_bytes(b"")
    assert kinds(check(archive.files)) == ["empty", "day_absent", "missing"]


def test_a_file_given_twice_is_read_once(tmp_path: Path) -> None:
    archive = an_archive(tmp_path)
    diagnosis = check([*archive.files, archive.files[0].parent / "." / archive.files[0].name])
    assert (kinds(diagnosis), diagnosis.is_sound) == (["given_twice"], True)


def test_two_hundred_thousand_void_rows_are_one_finding(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    truth = make_truth(Random(7), "BTCUSDT", "usdm", date(2024, 3, 4), 1, 210_000, voids=0.97)
    archive.write(archive.copy(truth, "daily"), Random(1), compress=True, header=True)
    (finding,) = check(archive.files).findings
    voids = sum(not row.size for row in truth.rows)
    assert voids > 200_000
    assert (finding.kind, finding.count, finding.kind.is_fault) == (Kind.VOID, voids, False)


def test_ids_that_begin_anew_are_one_finding_and_no_duplicates(tmp_path: Path) -> None:
    # Within a month's file, and from one day's file to the next: the same, and no id of the two is confused.
    archive = Archive(tmp_path)
    old = make_truth(Random(7), "BTCUSDT", "spot", date(2024, 3, 1), 2, 50, first_id=100)
    new = make_truth(Random(8), "BTCUSDT", "spot", date(2024, 3, 3), 29, 50, first_id=1)
    for name in ("daily", "monthly"):
        source = archive.copy(old, name)
        source.rows.update(archive.copy(new, name).rows)
        archive.write(source, Random(1), compress=False, header=False)
    for files in (archive.files, archive.files[:-1], archive.files[-1:]):
        (finding,) = check(files).findings
        assert (finding.kind, finding.day) == (Kind.IDS_BEGIN_ANEW, date(2024, 3, 3))


def test_rows_outside_the_day_of_a_file_are_found(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    truth = make_truth(Random(7), "BTCUSDT", "spot", date(2024, 3, 4), 3, 30)
    source = archive.copy(truth, "daily")
    day = date(2024, 3, 5)
    source.rows[day][-1] = source.rows[day][-1]._replace(time_us=source.rows[day][-1].time_us + 5_000_000)
    archive.write(source, Random(1), compress=False, header=False)
    (finding,) = check(archive.files).findings
    assert (finding.kind, finding.day, finding.count) == (Kind.OUTSIDE_PERIOD, date(2024, 3, 6), 1)
    assert finding.files == (str(archive.files[1]),)


def test_formats_that_change_are_notes(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    truth = make_truth(Random(7), "BTCUSDT", "spot", date(2024, 12, 30), 4, 200)
    source = archive.copy(truth, "daily")
    for number, (day, rows) in enumerate(source.rows.items()):
        archive.write_file(source, day.isoformat(), rows, Random(1), compress=False, header=number >= 1)
    diagnosis = check(archive.files)
    assert [(finding.kind, str(finding.day), finding.detail) for finding in diagnosis.findings] == [
        (Kind.HEADER, "2024-12-31", "with one"),
        (Kind.TIME_UNIT, "2025-01-01", "3 decimals of a second, now 6"),
    ]
    assert diagnosis.is_sound


def test_times_cut_to_whole_seconds_are_a_fault_and_fewer_decimals_a_note(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    truth = make_truth(Random(7), "BTCUSDT", "spot", date(2024, 3, 4), 3, 200)
    source = archive.copy(truth, "daily")
    second, third = sorted(source.rows)[1:]
    source.rows[second] = [row._replace(time_us=row.time_us // 10**6 * 10**6) for row in source.rows[second]]
    source.rows[third] = [row._replace(price=row.price.quantize(1) + 1) for row in source.rows[third]]
    archive.write(source, Random(1), compress=False, header=False)
    assert [(finding.kind, finding.day) for finding in check(archive.files).findings] == [
        (Kind.TIME_PRECISION_LOST, second), (Kind.PRECISION, third),
    ]  # fmt: skip


def test_a_day_without_trades_is_not_absent_where_ids_go_on(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    truth = make_truth(Random(7), "QUIETUSDT", "spot", date(2024, 3, 4), 1, 30)
    later = make_truth(Random(7), "QUIETUSDT", "spot", date(2024, 3, 8), 1, 30, first_id=truth.rows[-1].last + 1)
    for one in (truth, later):
        archive.write(archive.copy(one, "daily"), Random(1))
    assert kinds(check(archive.files)) == []


def test_overlapping_aggregates_are_told_from_repeated_ones(tmp_path: Path) -> None:
    archive = Archive(tmp_path, "aggTrades")
    truth = make_truth(Random(7), "BTCUSDT", "spot", date(2024, 3, 4), 1, 60, aggregated=True)
    source = archive.copy(truth, "daily")
    (day,) = source.rows
    at = next(i for i, row in enumerate(truth.rows) if i > 5 and row.last > row.first)
    source.rows[day][at] = truth.rows[at]._replace(first=truth.rows[at].first - 1)
    archive.write(source, Random(1), compress=False, header=False)
    (finding,) = check(archive.files).findings
    before = truth.rows[at].first - 1
    assert (finding.kind, finding.ranges) == (Kind.OVERLAPPING, ((before, before),))


def test_malformed_rows_are_named_by_their_line_and_the_others_are_read(tmp_path: Path) -> None:
    archive = an_archive(tmp_path)
    path = archive.files[1]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = b"1034,oops," + lines[4].split(b",", 2)[2]
    lines[9] = lines[9].replace(b",True\r\n", b"\r\n").replace(b",True\n", b"\n")
    lines[12:12] = [HEADERS["trades"].encode() + b",is_best_match\n", b"\xff\xfe garbage \x00\n"]
    path.write_bytes(b"".join(lines))
    diagnosis = check(archive.files)
    malformed, header, missing = diagnosis.findings
    assert (malformed.kind, malformed.count, malformed.row) == (Kind.MALFORMED, 3, 5)
    assert "line 5" in malformed.detail
    assert "oops" in malformed.detail
    assert (header.kind, header.row, header.count, header.detail) == (Kind.HEADER, 13, 1, "inside")
    assert (missing.kind, missing.count) == (Kind.MISSING, 2)
    assert diagnosis.files[1].rows == 28


def test_a_file_of_nothing_but_malformed_rows_is_given_up(tmp_path: Path) -> None:
    archive = an_archive(tmp_path)
    rows = archive.files[1].read_bytes()
    archive.files[1].write_bytes(rows + b"x,1,1,1,1,True,True\n" * 20_000)
    diagnosis = check(archive.files)
    assert [(finding.kind, finding.count) for finding in diagnosis.findings] == [
        (Kind.DAMAGED, 1), (Kind.MALFORMED, 10_001),
    ]  # fmt: skip


def test_a_time_unit_that_changes_inside_a_file_is_malformed_from_there_on(tmp_path: Path) -> None:
    archive = an_archive(tmp_path)
    path = archive.files[2]
    lines = path.read_text().splitlines(keepends=True)
    for number in range(20, 30):
        fields = lines[number].split(",")
        fields[4] += "000"
        lines[number] = ",".join(fields)
    path.write_text("".join(lines))
    (finding,) = check(archive.files).findings
    assert (finding.kind, finding.count, finding.row) == (Kind.MALFORMED, 10, 21)
    assert "column 5 (time)" in finding.detail


def tardis(symbols: dict[str, list[int]]) -> str:
    """A file of several symbols, whose rows come in turn."""
    lines = ["exchange,symbol,timestamp,local_timestamp,id,side,price,amount"]
    for place in range(max(map(len, symbols.values()))):
        for number, (symbol, ids) in enumerate(symbols.items()):
            if place < len(ids):
                time_us = 1_709_510_400_000_000 + place * 1_000_000 + number
                lines.append(f"binance,{symbol},{time_us},{time_us},{ids[place]},buy,{100 + number}.5,1")
    return "\n".join([*lines, ""])


def test_each_symbol_of_a_file_of_several_is_checked_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "binance_trades_2024-03-04_SPOT.csv"
    path.write_text(tardis({"BTCUSDT": [1, 2, 3, 4], "币安人生USDT": [7, 8, 11, 12, 12], "ETHUSDT": [1, 2, 4]}))
    diagnosis = check([path])
    assert [(str(finding.series), finding.kind, finding.ranges) for finding in diagnosis.findings] == [
        ("binance spot ETHUSDT", Kind.MISSING, ((3, 3),)),
        ("binance spot 币安人生USDT", Kind.CONFLICTING, ((12, 12),)),
        ("binance spot 币安人生USDT", Kind.MISSING, ((9, 10),)),
    ]
    assert {str(name): [report.rows for report in days.values()] for name, days in diagnosis.days.items()} == {
        "binance spot BTCUSDT": [{"daily": 4}], "binance spot ETHUSDT": [{"daily": 3}],
        "binance spot 币安人生USDT": [{"daily": 5}],
    }  # fmt: skip


def test_without_ids_days_that_are_absent_or_differ_are_found(tmp_path: Path) -> None:
    def text(days: list[int], size: str = "1") -> str:
        rows = [
            f"{1_709_251_200_000 + (day - 1) * 86_400_000 + hour * 3_600_000},BTCUSD,Sell,{size},100.5,,x{hour},0,0,0\n"
            for day in days
            for hour in range(24)
        ]
        header = "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional\n"
        return header + "".join(rows)

    files = []
    for day in range(1, 32):
        if day not in (4, 5):
            files.append(tmp_path / f"BTCUSD2024-03-{day:02d}.csv")
            files[-1].write_text(text([day], size="2" if day == 9 else "1"))
    assert [(finding.kind, finding.day, finding.until) for finding in check(files).findings] == [
        (Kind.NO_IDS, None, None), (Kind.DAY_ABSENT, date(2024, 3, 4), date(2024, 3, 5)),
    ]  # fmt: skip
    files.append(tmp_path / "BTCUSD-2024-03.csv")
    files[-1].write_text(text(list(range(1, 32))))
    assert [(finding.kind, finding.day) for finding in check(files).findings] == [
        (Kind.NO_IDS, None), (Kind.DIFFERS, date(2024, 3, 9)),
    ]  # fmt: skip
