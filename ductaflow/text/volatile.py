"""What in a run's texts is of that one run only: addresses, ids, the time, how long it took.

Two texts say the same if they are equal but for such parts, and each part is one of its own run: a
date counts as the run's only on the day when that ran, a duration only if it is no longer than the
run. So data that look alike are still compared.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache

import attrs

_UNITS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "secs": 1.0,
    "second": 1.0, "seconds": 1.0, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0,
    "hours": 3600.0,
}  # fmt: skip
_UNIT = "|".join(sorted(_UNITS, key=len, reverse=True))
_NUMBER = r"\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_DAY = r"\d{4}-\d\d-\d\d|\d{4}/\d\d/\d\d"
_CLOCK = r"\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_PARTS = {
    "uuid": r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b[0-9a-f]{32}\b",
    "address": r"(?<=\bat )0x[0-9a-fA-F]+|\b0x[0-9a-fA-F]{9,16}\b",
    "temporary": r"\btmp[a-z0-9_]{8}\b|\bipykernel_\d+\b",
    "progress": r"\[\d+:\d\d(?::\d\d)?<[^\]\n]*\]",  # tqdm's
    "loops": r"\b[\d,]+ loops?(?: each)?\b",  # %timeit's
    "stamp": rf"\b(?:{_DAY})[T ]{_CLOCK}(?:Z|[-+]\d\d:?\d\d)?",
    "compact": r"\b\d{8}[T_-]?\d{6}(?:\d{6})?\b",
    "day": rf"\b(?:{_DAY})\b|\b{_MONTH} +\d{{1,2}}\b|\b\d{{1,2}} {_MONTH}\b",
    "clock": rf"\b{_CLOCK}\b",
    "lasted": rf"\b(?:{_NUMBER}\s?(?:{_UNIT})\b[ ,]?)+",
    "rate": rf"\b{_NUMBER}\s?(?:it/s|s/it)\b",
    "number": r"\b\d{2,19}(?:\.\d+)?\b",  # a process's, an object's, seconds since 1970
}
_ANY = re.compile("|".join(f"(?P<{name}>{part})" for name, part in _PARTS.items()))
_ALWAYS = frozenset({"uuid", "address", "temporary", "progress", "loops", "rate"})
_WIDER = timedelta(seconds=2)
_EPOCHS = ((10, 1.0), (13, 1e3), (16, 1e6), (19, 1e9))  # digits, and how many to the second
_OBJECTS = ((0x550000000000, 0x580000000000), (0x7E0000000000, 0x800000000000))  # `id()` on Linux


@attrs.frozen
class Circumstances:
    """When and where a run ran.

    Attributes:
        began: When it began.
        ended: When it ended.
        pids: The processes of its kernel and its conductor.
        places: Folders whose names are of this run only, and what to call them instead.
    """

    began: datetime
    ended: datetime
    pids: frozenset[int] = frozenset()
    places: tuple[tuple[str, str], ...] = ()

    def placed(self, text: str) -> str:
        """A text with the names of places that the other run has too."""
        for name, other in self.places:
            text = text.replace(name, other)
        return text

    def is_own(self, kind: str, part: str) -> bool:
        """Whether a part of a text may be of this run only."""
        if kind in _ALWAYS:
            return True
        if kind == "lasted":
            return _seconds(part) <= (self.ended - self.began + _WIDER).total_seconds()
        if kind == "number":
            return self._is_own_number(part)
        return any(self._is_then(kind, part, zone) for zone in (timezone.utc, None))

    def _is_own_number(self, part: str) -> bool:
        whole = part.partition(".")[0]
        if int(whole) in self.pids or any(a <= int(whole) < b for a, b in _OBJECTS):
            return True
        for digits, per_second in _EPOCHS:
            if len(whole) == digits:
                since = float(part) / per_second
                margin = _WIDER.total_seconds()
                return self.began.timestamp() - margin <= since <= self.ended.timestamp() + margin
        return False

    def _is_then(self, kind: str, part: str, zone: timezone | None) -> bool:
        """Whether a time in that zone, the machine's own for None, is one of the run's."""
        began = (self.began - _WIDER).astimezone(zone)
        ended = (self.ended + _WIDER).astimezone(zone)
        if kind == "day":
            days = {f"{day:{form}}" for day in (began, ended) for form in _DAY_FORMS}
            return _squeezed(part) in {_squeezed(day) for day in days}
        if kind == "clock":
            at = part.replace(",", ".")
            first, last = (f"{time:%H:%M:%S}"[: len(at)] for time in (began, ended))
            within = first <= at[:8] <= last
            return within if first <= last else not last < at[:8] < first  # over midnight
        if kind == "compact":
            digits = re.sub(r"\D", "", part)[:14]
            return f"{began:%Y%m%d%H%M%S}" <= digits <= f"{ended:%Y%m%d%H%M%S}"
        then = _parsed(part)
        if then is None:
            return False
        if then.tzinfo is None:
            then = then.replace(tzinfo=began.tzinfo)
        exact = part.count(":") > 1
        return (began if exact else began.replace(second=0, microsecond=0)) <= then <= ended


_DAY_FORMS = ("%Y-%m-%d", "%Y/%m/%d", "%b %d", "%B %d", "%d %b", "%d %B")


def _squeezed(day: str) -> str:
    return re.sub(r"\b0| ", "", day)


def _parsed(stamp: str) -> datetime | None:
    text = stamp.replace("/", "-").replace(",", ".").replace("Z", "+00:00").replace(" ", "T")
    text = re.sub(r"([-+]\d\d)(\d\d)$", r"\1:\2", text)
    # Python 3.10 knows no fractions but of three or six digits.
    text = re.sub(r"\.(\d+)", lambda match: f".{match[1]:0<6}"[:7], text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _seconds(lasted: str) -> float:
    return sum(
        float(number) * _UNITS[unit]
        for number, unit in re.findall(rf"({_NUMBER})\s?({_UNIT})\b", lasted)
    )


def same_text(before: str, after: str, old: Circumstances, new: Circumstances) -> bool:
    """Whether two texts say the same, but for what is of one run only.

    Args:
        before: The one.
        after: The other.
        old: When and where the run ran that the first is of.
        new: Likewise of the second.
    """
    before, after = old.placed(before), new.placed(after)
    if before == after:
        return True
    if _ANY.sub("", before) != _ANY.sub("", after):
        return False
    parts, others = _split(before), _split(after)
    if len(parts) != len(others):
        return False
    for (text, kind, part), (text_now, kind_now, part_now) in zip(parts, others, strict=True):
        if text != text_now:
            return False
        if part != part_now and not (
            kind == kind_now and old.is_own(kind, part) and new.is_own(kind, part_now)
        ):
            return False
    return True


def _split(text: str) -> list[tuple[str, str, str]]:
    """A text as plain text, kind of part, and part, in turns."""
    found, end = [], 0
    for match in _ANY.finditer(text):
        found.append((text[end : match.start()], match.lastgroup or "", match[0]))
        end = match.end()
    return [*found, (text[end:], "", "")]


@lru_cache(maxsize=16)
def renamed_ids(page: str) -> str:
    """HTML or SVG with its elements' ids numbered in order: libraries make them up."""
    ids = dict.fromkeys(re.findall(r"""\bid\s*=\s*["']([^"']+)["']""", page))
    if not ids:
        return page
    numbers = {name: f"id-{number}" for number, name in enumerate(ids)}
    longest_first = sorted(map(re.escape, ids), key=len, reverse=True)
    any_id = re.compile(rf"(?<![\w-])(?:{'|'.join(longest_first)})(?![\w-])")
    return any_id.sub(lambda match: numbers[match[0]], page)
