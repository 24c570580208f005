"""BarSpec: the rule that ends a bar, read from text: "5m", "1d@America/New_York", "session:09:30-16:00", "tick:50@1d".

Units: steps in the spec's own unit, rules in nanoseconds; origins seconds of wall-clock time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbars.errors import PrecisionError, SpecError
from fastbars.kernel.limits import LONGEST_MONTHS, LONGEST_NS
from fastbars.kernel.scaled import parse, to_decimal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_NS = 1_000_000_000
_UNITS_NS = {
    "s": _SECOND_NS,
    "m": 60 * _SECOND_NS,
    "h": 3600 * _SECOND_NS,
    "d": 86400 * _SECOND_NS,
    "w": 7 * 86400 * _SECOND_NS,
}
_UNITS_MONTHS = {"mo": 1, "y": 12}
_MONDAY_NS = 4 * 86400 * _SECOND_NS  # 1970-01-05
_LONGEST_ORIGIN_S = 7 * 86400
_CALENDAR_UNITS = ("d", "w", "mo", "y")
_FEATURES = re.compile(r"(.*?)((?:\+[a-z][a-z0-9:.]*)*)", re.DOTALL)
_VALID = (
    "valid are 1s 5s 1m 5m 15m 1h 4h 1d 1w 1mo 1y and the like, 1d+17:00@America/New_York,"
    " session:09:30-16:00@America/New_York, session:XNYS, tick:1000, volume:50, value:1000000, range:0.5, renko:10,"
    " delta:100, cusum:2.5, imbalance:volume:1000, runs:tick:500:adaptive; with an anchor volume:50@1d; +flow and"
    " +footprint:STEP behind any of them"
)

Origin = str | time | timedelta | int
"""Where an interval begins, from its ordinary beginning: "17:00", "-07:00", a time of day, a timedelta, seconds."""


class BarKind(StrEnum):
    """What ends a bar: time, or the trades in it.

    - time: its interval is over.
    - session: its session is over: the hours of a day, or an exchange's.
    - tick, volume, value: its trades reach a count, a summed size, a summed price x size.
    - range: its high is `step` above its low, or more.
    - renko: the price has crossed a brick: a cell of a grid of `step`, next to the last brick. It opens and closes at
      the ends of that cell. A trade that moves over several bricks ends as many bars, all but the first without trades;
      over more than 100, it ends one bar that spans them all.
    - delta: what takers bought in it less what they sold is `step` or more, either way; trades whose side is not known
      count for neither.
    - cusum: the symmetric CUSUM filter on differences of prices samples its last trade (Lopez de Prado, Advances in
      Financial Machine Learning, 2018, section 2.5.2.1): a sum of rises, or of falls, never below 0, reaches `step`.
    - imbalance, runs: what was bought in it less what was sold, either way, or the larger of the two reaches `step`, in
      trades, size or price x size (`BarSpec.measure`); adaptive ones follow what finished bars lead to expect
      (the same, sections 2.3.2.1 to 2.3.2.4; docs/bar-kinds.md has the formulas).
    """

    TIME = "time"
    SESSION = "session"
    TICK = "tick"
    VOLUME = "volume"
    VALUE = "value"
    RANGE = "range"
    RENKO = "renko"
    DELTA = "delta"
    CUSUM = "cusum"
    IMBALANCE = "imbalance"
    RUNS = "runs"


_TIMED = (BarKind.TIME, BarKind.SESSION)
# Their steps are whole numbers: of units of time, of seconds, or of trades.
_WHOLE_STEPS = (*_TIMED, BarKind.TICK)
# What is summed up towards the step, and the ways to apply it, of the kinds that leave these open.
_MEASURES: dict[BarKind, tuple[str, ...]] = dict.fromkeys(
    (BarKind.IMBALANCE, BarKind.RUNS), ("tick", "volume", "value")
)
_MODIFIERS: dict[BarKind, tuple[str, ...]] = {
    BarKind.VOLUME: ("exact",),
    BarKind.VALUE: ("exact",),
    BarKind.IMBALANCE: ("adaptive",),
    BarKind.RUNS: ("adaptive",),
}
_TIME = re.compile(r"([0-9]{1,9})(s|m|h|d|w|mo|y)([+-][0-9:]+)?(?:@(.*))?")
_PATH = re.compile(
    rf"({'|'.join(kind for kind in BarKind if kind not in _TIMED)})(?::([a-z]+))?:([0-9.]{{1,40}})(?::([a-z]+))?"
    "(?:@(.*))?"
)
_HOURS = re.compile(r"([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)-([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:@(.*))?")
_CALENDAR = re.compile(r"[A-Za-z0-9_/]{1,32}")
_DAY_S = 86400


@dataclass(frozen=True, slots=True)
class BarSpec:
    """How trades are cut into bars.

    Time bars cover [open_time, close_time), aligned to the epoch; weeks start Monday 00:00; months and years are
    those of the calendar. Days and longer follow the wall clock of `timezone` and begin `origin_s` after its
    midnight; a day has 23 or 25 hours where the clock is changed.

    Session bars cover the hours of a session, one bar each: those of every day in `timezone`, which may reach over
    midnight, or those of an exchange's `calendar`, which knows holidays and half days. Trades outside of sessions
    belong to no bar.

    All others are path-driven (`BarKind`): they run from their first to their last trade, and end with the trade that
    reaches the step, which stays whole. With an anchor they begin anew with each of its intervals, so that they do not
    depend on when one began to look; without one they do, and once a trade is missing, all from there on are GAP.

    Attributes:
        kind: what ends a bar.
        step: how many units, trades, base units or quote units; of range, renko and cusum a distance of prices; of a
            session its length in seconds of wall-clock time, of those of a calendar 1.
        unit: s, m, h, d, w, mo or y; empty for the other kinds.
        timezone: IANA name, of d, w, mo and y, and of sessions; empty: UTC.
        origin_s: seconds from where a time bar would otherwise begin to where it does, under 7 days; of a session from
            midnight to its beginning, under a day.
        calendar: of sessions, a name in exchange-calendars, such as XNYS.
        anchor: of a path-driven spec, the time or session spec with whose intervals it begins anew; None: never.
        measure: what imbalance and runs bars sum up: "tick", "volume" or "value"; empty for the other kinds.
        modifier: "exact", of volume and value: the trade that ends a bar is split, so that each has exactly the step;
            "adaptive", of imbalance and runs: the threshold follows what finished bars lead to expect.
        features: what its bars tell beside their fields, in alphabetical order: "flow", "footprint:STEP" (see
            docs/order-flow.md).

    Raises:
        SpecError: the fields do not make a valid spec.
    """

    kind: BarKind
    step: Decimal
    unit: str = ""
    timezone: str = ""
    origin_s: int = 0
    calendar: str = ""
    anchor: BarSpec | None = None
    measure: str = ""
    modifier: str = ""
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Checked here too, not only by `parse`: a spec may be built by hand or come from a pickle.
        try:
            mantissa, scale = parse(self.step) if isinstance(self.step, Decimal) else (0, 0)
        except PrecisionError as error:
            raise SpecError(f"bar spec of step {self.step}: {error}; {_VALID}") from None
        timed = self.kind == BarKind.TIME
        is_session = self.kind == BarKind.SESSION
        whole = self._is_whole
        if self.kind not in tuple(BarKind) or mantissa <= 0 or (whole and scale):
            raise SpecError(f"bar spec of kind {self.kind} and step {self.step!r} is not known; {_VALID}")
        if timed and (self.unit not in _UNITS_NS | _UNITS_MONTHS or _is_too_long(mantissa, self.unit)):
            raise SpecError(f"bar spec of {mantissa} {self.unit!r} is not between 1s and 100 years; {_VALID}")
        if self.modifier == "exact" and self.features:
            raise SpecError(
                f"bar spec with features {'+'.join(self.features)}: trades must be whole, not split; {_VALID}"
            )
        if is_session:
            self._check_session(mantissa)
        elif self.calendar:
            raise SpecError(f"bar spec of kind {self.kind} has no calendar; {_VALID}")
        if not timed and not is_session and (self.unit or self.timezone or self.origin_s):
            raise SpecError(f"bar spec of kind {self.kind} has no unit, time zone or origin; {_VALID}")
        if self.timezone and not is_session and self.unit not in _CALENDAR_UNITS:
            raise SpecError(
                f"bar spec of {mantissa}{self.unit} is shorter than a day: time zones are for days and longer"
            )
        if not -_LONGEST_ORIGIN_S < self.origin_s < _LONGEST_ORIGIN_S:
            raise SpecError(f"bar spec of origin {self.origin_s} s: it must be under 7 days")
        if self.features:
            object.__setattr__(self, "features", _checked_features(self.features))
        self._check_additions()

    def _check_additions(self) -> None:
        for name, given, known in (
            ("measure", self.measure, _MEASURES.get(self.kind, ("",))),
            ("modifier", self.modifier, ("", *_MODIFIERS.get(self.kind, ()))),
        ):
            if given not in known:
                choices = ", ".join(filter(None, known)) or "none"
                raise SpecError(f"bar spec of kind {self.kind} has the {name} {given!r}; it has {choices}; {_VALID}")
        anchor = self.anchor
        if anchor is not None and (self.is_timed or not anchor.is_timed or anchor.features):
            raise SpecError(
                f"bar spec of kind {self.kind} and anchor {anchor}: anchors are time specs such as 1d; {_VALID}"
            )

    def _check_session(self, seconds: int) -> None:
        placed = bool(self.timezone or self.origin_s)
        if (
            self.unit
            or (self.calendar and (placed or seconds != 1))
            or not (0 <= self.origin_s < _DAY_S and seconds < _DAY_S)
        ):
            raise SpecError(f"sessions are of hours of a day, or of a calendar, and shorter than a day; {_VALID}")
        if self.calendar and not _CALENDAR.fullmatch(self.calendar):
            raise SpecError(f"calendar {self.calendar!r} is not a name, such as XNYS; {_VALID}")

    def __reduce__(self) -> tuple[Any, ...]:
        return BarSpec, (
            BarKind(self.kind), self.step, self.unit, self.timezone, self.origin_s, self.calendar, self.anchor,
            self.measure, self.modifier, self.features,
        )  # fmt: skip

    @classmethod
    def parse(cls, text: str | int | BarSpec, *, timezone: str | None = None, origin: Origin | None = None) -> BarSpec:
        """Read "5m", "1d+17:00@America/New_York", "tick:1000", "1m+footprint:0.5", ..., or a number of seconds.

        Args:
            text: count and unit, then an origin with its sign, then @ and a time zone; behind all of it features, each
                with a +.
            timezone: IANA name, if the text has none; of days and longer.
            origin: where the bars begin, if the text does not say; of time bars.

        Raises:
            SpecError: it is not a valid spec; the message says what would be.
        """
        spec = cls._parse(text)
        if timezone is None and origin is None:
            return spec
        if spec.kind is not BarKind.TIME:
            raise SpecError(f"bar spec {spec} is not cut by time: it has no time zone or origin")
        return spec._placed(spec.timezone or timezone or "", spec.origin_s or (0 if origin is None else origin))

    @classmethod
    def _parse(cls, text: str | int | BarSpec) -> BarSpec:
        if isinstance(text, BarSpec):
            return text
        if isinstance(text, int) and not isinstance(text, bool):
            unit = next(u for u in ("d", "h", "m", "s") if text % (_UNITS_NS[u] // _SECOND_NS) == 0)
            text = f"{text * _SECOND_NS // _UNITS_NS[unit]}{unit}"
        if not isinstance(text, str):
            raise SpecError(f"a bar spec is text, not {text!r}; {_VALID}")
        if (match := _FEATURES.fullmatch(text)) and match[2]:
            return replace(cls._head(text, match[1]), features=tuple(match[2].split("+")[1:]))
        return cls._head(text, text)

    @classmethod
    def _head(cls, text: str, head: str) -> BarSpec:
        if match := _TIME.fullmatch(head):
            if match[4] == "":
                raise SpecError(f"bar spec {text!r} names no time zone after the @; {_VALID}")
            return cls._time(text, int(match[1]), match[2])._placed(match[4] or "", match[3] or 0)
        if head.startswith("session:"):
            return cls._session(text, head.removeprefix("session:"))
        if match := _PATH.fullmatch(head):
            spec = cls._path(text, BarKind(match[1]), match[2] or "", match[3], match[4] or "")
            if match[5] is None:
                return spec
            if not (_TIME.fullmatch(match[5]) or match[5].startswith("session:")):
                raise SpecError(f"bar spec {text!r} has the anchor {match[5]!r}, which is no time spec; {_VALID}")
            return replace(spec, anchor=cls._head(text, match[5]))
        hint = " (a month is written mo)" if re.fullmatch(r"[0-9]+M", text) else ""
        raise SpecError(f"bar spec {text!r} is not known{hint}; {_VALID}")

    @classmethod
    def _time(cls, text: str, count: int, unit: str) -> BarSpec:
        if count < 1 or _is_too_long(count, unit):
            raise SpecError(f"bar spec {text!r} is not between 1s and 100 years; {_VALID}")
        return cls(BarKind.TIME, Decimal(count), unit)

    @classmethod
    def _session(cls, text: str, given: str) -> BarSpec:
        from fastbars.calendars import exchange_boundaries, origin_seconds, zone  # noqa: PLC0415 as below

        if match := _HOURS.fullmatch(given):
            if match[3] == "":
                raise SpecError(f"bar spec {text!r} names no time zone after the @; {_VALID}")
            opens, closes = origin_seconds(match[1]), origin_seconds(match[2])
            if max(opens, closes) > _DAY_S or opens == _DAY_S or (closes - opens) % _DAY_S == 0:
                raise SpecError(
                    f"bar spec {text!r}: a session lies between two times of a day; whole days are 1d; {_VALID}"
                )
            zone(match[3] or "UTC")
            step = Decimal((closes - opens) % _DAY_S)
            return cls(BarKind.SESSION, step, "", "" if match[3] in (None, "UTC") else match[3], opens)
        if not _CALENDAR.fullmatch(given):
            raise SpecError(f"bar spec {text!r} is not known; {_VALID}")
        spec = cls(BarKind.SESSION, Decimal(1), calendar=given)
        exchange_boundaries(given)
        return spec

    @classmethod
    def _path(cls, text: str, kind: BarKind, measure: str, number: str, modifier: str) -> BarSpec:
        try:
            mantissa, scale = parse(number)
            step = to_decimal(mantissa, scale)
        except PrecisionError as error:
            raise SpecError(f"bar spec {text!r}: {error}; {_VALID}") from None
        whole = kind in _WHOLE_STEPS or measure == "tick"
        if mantissa <= 0 or (whole and scale):
            raise SpecError(f"bar spec {text!r} needs a positive {'whole ' if whole else ''}step; {_VALID}")
        return cls(kind, step, measure=measure, modifier=modifier)

    def _placed(self, timezone: str, origin: Origin) -> BarSpec:
        if not timezone and not origin:
            return self
        from fastbars.calendars import origin_seconds, zone  # noqa: PLC0415 zoneinfo is imported only where a zone is named

        origin_s = origin_seconds(origin) if origin else 0
        if timezone:
            zone(timezone)
            if self.unit not in _CALENDAR_UNITS:
                raise SpecError(f"bar spec {self} is shorter than a day: time zones are for days and longer")
        if self.unit not in ("w", "mo", "y"):
            origin_s %= int(self.step) * _UNITS_NS[self.unit] // _SECOND_NS
        return replace(self, timezone="" if timezone == "UTC" else timezone, origin_s=origin_s)

    @property
    def is_timed(self) -> bool:
        """Whether its bars cover intervals of time, whatever the trades in them: time and session bars."""
        return self.kind in _TIMED

    @property
    def is_zoned(self) -> bool:
        """Whether its intervals are looked up in `boundaries` rather than computed by the kernel."""
        return self.kind == BarKind.SESSION or bool(self.timezone or (self.origin_s and self.unit in _UNITS_MONTHS))

    @property
    def boundaries(self) -> npt.NDArray[np.int64] | None:
        """Where the intervals of a zoned spec begin, ns since the epoch, over all valid times; else None.

        Of sessions: a time before all others, where each begins and ends, and a time behind all, so that every other
        interval lies outside.
        """
        if not self.is_zoned:
            return None
        from fastbars.calendars import boundaries, exchange_boundaries, session_boundaries  # noqa: PLC0415 as above

        if self.calendar:
            return exchange_boundaries(self.calendar)
        if self.kind == BarKind.SESSION:
            return session_boundaries(self.timezone or "UTC", self.origin_s, int(self.step))
        return boundaries(self.timezone or "UTC", self.unit, int(self.step), self.origin_s)

    def begin_of(self, time: datetime) -> datetime:
        """Where the interval of a time spec that holds a time (aware) begins, UTC."""
        kind, step, origin = self.rule
        since = time - _EPOCH
        time_us = since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
        if kind == "months":
            moment = time.astimezone(UTC)
            months = moment.year * 12 + moment.month - 1 - 1970 * 12
            months -= months % step
            return datetime(1970 + months // 12, months % 12 + 1, 1, tzinfo=UTC)
        if (boundaries := self.boundaries) is not None:
            begin_ns = int(boundaries[max(int(np.searchsorted(boundaries, time_us * 1000, side="right")) - 1, 0)])
        else:
            begin_ns = time_us * 1000 - (time_us * 1000 - origin) % step
        return _EPOCH + timedelta(microseconds=begin_ns // 1000)

    @property
    def rule(self) -> tuple[str, int, int]:
        """(kind, step, origin) for the kernel: ns, calendar months or trades; "zoned", "sessions" have boundaries.

        The kind of a path-driven spec is its name with measure and modifier, such as "volume".
        """
        if self.is_zoned:
            return "sessions" if self.kind == BarKind.SESSION else "zoned", 0, 0
        if self.unit in _UNITS_MONTHS:
            return "months", int(self.step) * _UNITS_MONTHS[self.unit], 0
        if self.kind is BarKind.TIME:
            origin = self.origin_s * _SECOND_NS + (_MONDAY_NS if self.unit == "w" else 0)
            return "time", int(self.step) * _UNITS_NS[self.unit], origin
        name = ":".join(filter(None, (self.kind.value, self.measure, self.modifier)))
        return name, int(self.step) if self._is_whole else 0, 0

    @property
    def _is_whole(self) -> bool:
        return self.kind in _WHOLE_STEPS or self.measure == "tick"

    def __str__(self) -> str:
        return "+".join((self._cut, *self.features))

    @property
    def _cut(self) -> str:
        # Without the features.
        if self.kind == BarKind.SESSION:
            if self.calendar:
                return f"session:{self.calendar}"
            from fastbars.calendars import origin_text  # noqa: PLC0415 as below

            times = (origin_text(time_s)[1:] for time_s in (self.origin_s, (self.origin_s + int(self.step)) % _DAY_S))
            return f"session:{'-'.join(times)}{f'@{self.timezone}' if self.timezone else ''}"
        if not self.unit:
            parts = (self.kind.value, self.measure, f"{self.step:f}", self.modifier)
            return ":".join(filter(None, parts)) + (f"@{self.anchor}" if self.anchor else "")
        if not self.timezone and not self.origin_s:
            return f"{self.step}{self.unit}"
        from fastbars.calendars import origin_text  # noqa: PLC0415 as above

        origin = origin_text(self.origin_s) if self.origin_s else ""
        return f"{self.step}{self.unit}{origin}{f'@{self.timezone}' if self.timezone else ''}"


def _checked_features(features: Sequence[str]) -> tuple[str, ...]:
    checked = []
    if isinstance(features, str) or not all(isinstance(feature, str) for feature in features):
        raise SpecError(f"the features of a bar spec are a tuple of strings, not {features!r}")
    for feature in features:
        name, colon, step = feature.partition(":")
        if name == "footprint":
            try:
                mantissa, scale = parse(step)
            except PrecisionError as error:
                raise SpecError(f"feature {feature!r}: {error}; valid is footprint:0.5 and the like") from None
            if mantissa <= 0:
                raise SpecError(f"feature {feature!r} needs a positive step of its levels")
            checked.append(f"footprint:{to_decimal(mantissa, scale):f}")
        elif name == "flow" and not colon:
            checked.append(name)
        else:
            raise SpecError(f"feature {feature!r} is not known; valid are flow and footprint:STEP")
    if len({feature.partition(":")[0] for feature in checked}) < len(checked):
        raise SpecError(f"a feature is given twice in {'+'.join(checked)}")
    return tuple(sorted(checked))


def _is_too_long(count: int, unit: str) -> bool:
    months = _UNITS_MONTHS.get(unit)
    return count * months > LONGEST_MONTHS if months else count * _UNITS_NS[unit] > LONGEST_NS


def parse_specs(
    bars: str | int | BarSpec | Sequence[str | int | BarSpec],
    *,
    timezone: str | None = None,
    origin: Origin | None = None,
) -> tuple[BarSpec, ...]:
    """One spec, a list of them, or text with commas.

    Args:
        bars: the specs.
        timezone, origin: of those days and longer specs that do not name their own (see `BarSpec.parse`).

    Raises:
        SpecError: one is not known, or given twice, or `timezone` is not known.
    """
    if isinstance(bars, str):
        bars = bars.split(",")
    elif isinstance(bars, int | BarSpec):
        bars = [bars]
    specs = tuple(BarSpec.parse(spec) for spec in bars)
    if timezone is not None or origin is not None:
        placed = BarSpec.parse("1d", timezone=timezone, origin=origin)  # wrong ones are an error in any case
        specs = tuple(
            BarSpec.parse(spec, timezone=placed.timezone, origin=origin) if spec.unit in _CALENDAR_UNITS else spec
            for spec in specs
        )
    if not specs:
        raise SpecError(f"no bar spec is given; {_VALID}")
    if len(set(specs)) != len(specs):
        raise SpecError(f"a bar spec is given twice in {', '.join(map(str, specs))}")
    return specs
