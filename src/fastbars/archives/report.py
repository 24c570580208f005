"""A diagnosis as text: a table for people, JSON for programs.

The JSON has `version` 1; docs/check-files.md says what its fields mean. Fields may be added, none is removed or changes
its meaning within a version.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import orjson

from fastbars.archives.findings import DayReport, Diagnosis, Finding, SeriesName

__all__ = ["as_json", "as_table"]

VERSION = 1
_SHOWN_RANGES = 3
_SHOWN_FILES = 2
_MOST_LINES = 40  # of one series; JSON has all


def as_json(diagnosis: Diagnosis) -> bytes:
    """The whole diagnosis as one JSON object, indented."""
    content = {
        "version": VERSION,
        "sound": diagnosis.is_sound,
        "files": [
            {"path": file.path, "source": file.source, "rows": file.rows, "series": [*map(_named, file.series)]}
            for file in diagnosis.files
        ],
        "findings": [_finding(finding) for finding in diagnosis.findings],
        "days": [
            {**_named(name), "day": day.isoformat(), "rows": report.rows,
             "counts": {kind.value: count for kind, count in report.counts.items()}}
            for name, days in diagnosis.days.items()
            for day, report in days.items()
        ],
    }  # fmt: skip
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def as_table(diagnosis: Diagnosis) -> Iterator[str]:
    """Lines: one for each series, below it one for each finding, faults marked; then the sum of all."""
    of_series: dict[SeriesName | None, list[Finding]] = defaultdict(list)
    for finding in diagnosis.findings:
        of_series[finding.series].append(finding)
    for finding in of_series.pop(None, []):
        yield _line(finding, None)
    for name, days in diagnosis.days.items():
        yield _heading(name, days)
        findings = of_series[name]
        findings.sort(key=lambda finding: not finding.kind.is_fault)  # what is cut off at the end are notes
        for finding in findings[:_MOST_LINES]:
            yield _line(finding, days.get(finding.day) if finding.day is not None else None)
        if len(findings) > _MOST_LINES:
            yield f"  and {len(findings) - _MOST_LINES:,} more, which --json lists"
    faults = sum(1 for _ in diagnosis.faults)
    notes = len(diagnosis.findings) - faults
    files, rows = len(diagnosis.files), sum(file.rows for file in diagnosis.files)
    verdict = _counted(faults, "fault") if faults else "nothing is wrong"
    yield f"{verdict}, {_counted(notes, 'note')}: {_counted(files, 'file')}, {_counted(rows, 'row')}"


def _heading(name: SeriesName, days: dict[Any, DayReport]) -> str:
    with_rows = [day for day, report in days.items() if report.rows]
    if not with_rows:
        return f"{name}: no rows"
    sums: dict[str, int] = defaultdict(int)
    for report in days.values():
        for source, rows in report.rows.items():
            sums[source] += rows
    rows_by_source = ", ".join(f"{rows:,} {source}" for source, rows in sorted(sums.items()))
    days_with = _counted(len(with_rows), "day")
    return f"{name}: {with_rows[0]} to {with_rows[-1]}, {days_with} with trades; rows: {rows_by_source}"


def _line(finding: Finding, day: DayReport | None) -> str:
    when = "" if finding.day is None else finding.day.isoformat()
    if finding.until is not None and finding.until != finding.day:
        when += f" to {finding.until}"
    mark = "!" if finding.kind.is_fault else " "
    where = []
    if finding.ranges:
        shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in finding.ranges[:_SHOWN_RANGES]]
        more = len(finding.ranges) - _SHOWN_RANGES
        where.append(f"ids {', '.join(shown)}" + (f" and {more:,} more ranges" if more > 0 else ""))
    if day is not None and day.rows:
        where.append(f"of {max(day.rows.values()):,} rows")
    if finding.detail:
        where.append(finding.detail)
    if finding.files:
        shown = [_short(path) for path in finding.files[:_SHOWN_FILES]]
        more = len(finding.files) - _SHOWN_FILES
        row = "" if finding.row is None else f", row {finding.row:,}"
        where.append(f"{', '.join(shown)}{f' and {more:,} more' if more > 0 else ''}{row}")
    return f"{mark} {when or '-':10}  {finding.kind.value:22} {finding.count:>12,}  {'; '.join(where)}".rstrip()


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _short(path: str) -> str:
    # "daily" and "monthly" files differ by the folder as well as by the name.
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "fault": finding.kind.is_fault,
        "meaning": finding.kind.meaning,
        **_named(finding.series),
        "day": None if finding.day is None else finding.day.isoformat(),
        "until": None if finding.until is None else finding.until.isoformat(),
        "count": finding.count,
        "ranges": [list(pair) for pair in finding.ranges],
        "files": list(finding.files),
        "row": finding.row,
        "detail": finding.detail,
    }


def _named(name: SeriesName | None) -> dict[str, str | None]:
    return dict(zip(("exchange", "market", "symbol", "dataset"), name or [None] * 4, strict=True))
