"""Cron expressions on the nights on which clocks change, on odd days, and expressions that are none.

The rules are those of Debian's cron, which ``cronsim`` follows.
"""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import islice, pairwise

import pytest
from django.utils import timezone

from tests.schedules.nights import DAY, HOUR, MINUTE, utc
from workflow_engine import next_times
from workflow_engine.errors import InvalidInput
from workflow_engine.kernel.schedules.cron import calendar_of


def quarters(first: str, last: str) -> list[str]:
    """Return every quarter of an hour, as ``HH:MM``, from the first to the last."""
    hour, minute = map(int, first.split(":"))
    found = []
    while not found or found[-1] != last:
        found.append(f"{hour:02}:{minute:02}")
        hour, minute = (hour + (minute + 15) // 60) % 24, (minute + 15) % 60
    return found


# From local midnight to 05:00 of each night, in UTC. What follows the clock on the wall comes once; what follows the
# time that passes goes on evenly.
NIGHTS = [
    # 02:00 +01:00 becomes 03:00 +02:00: the hour from 02:00 is left out.
    ("Europe/Berlin", "2026-03-28 23:00", "0 * * * *", ["23:00", "00:00", "01:00", "02:00", "03:00"]),
    ("Europe/Berlin", "2026-03-28 23:00", "30 2 * * *", ["01:00"]),
    ("Europe/Berlin", "2026-03-28 23:00", "0 3 * * *", ["01:00"]),
    ("Europe/Berlin", "2026-03-28 23:00", "*/15 * * * *", quarters("23:00", "03:00")),
    # 03:00 +02:00 becomes 02:00 +01:00: the hour from 02:00 comes twice.
    ("Europe/Berlin", "2026-10-24 22:00", "0 * * * *", ["22:00", "23:00", "00:00", "01:00", "02:00", "03:00", "04:00"]),
    ("Europe/Berlin", "2026-10-24 22:00", "30 2 * * *", ["00:30"]),
    ("Europe/Berlin", "2026-10-24 22:00", "0 3 * * *", ["02:00"]),
    ("Europe/Berlin", "2026-10-24 22:00", "*/15 * * * *", quarters("22:00", "04:00")),
    # 02:00 -05:00 becomes 03:00 -04:00.
    ("America/New_York", "2026-03-08 05:00", "0 * * * *", ["05:00", "06:00", "07:00", "08:00", "09:00"]),
    ("America/New_York", "2026-03-08 05:00", "30 2 * * *", ["07:00"]),
    ("America/New_York", "2026-03-08 05:00", "0 3 * * *", ["07:00"]),
    ("America/New_York", "2026-03-08 05:00", "*/15 * * * *", quarters("05:00", "09:00")),
    # 02:00 -04:00 becomes 01:00 -05:00: the hour from 01:00 comes twice.
    (
        "America/New_York",
        "2026-11-01 04:00",
        "0 * * * *",
        ["04:00", "05:00", "06:00", "07:00", "08:00", "09:00", "10:00"],
    ),
    ("America/New_York", "2026-11-01 04:00", "30 1 * * *", ["05:30"]),
    ("America/New_York", "2026-11-01 04:00", "30 2 * * *", ["07:30"]),
    ("America/New_York", "2026-11-01 04:00", "0 3 * * *", ["08:00"]),
    ("America/New_York", "2026-11-01 04:00", "*/15 * * * *", quarters("04:00", "10:00")),
]


@pytest.mark.parametrize(("zone", "midnight", "cron", "times"), NIGHTS)
def test_on_the_nights_on_which_clocks_change(zone: str, midnight: str, cron: str, times: list[str]) -> None:
    start = utc(midnight)
    is_spring = start.month == 3
    end = start + (4 if is_spring else 6) * HOUR

    found = []
    for at in calendar_of(cron, zone).after(start - timedelta(seconds=1)):
        if at > end:
            break
        found.append(f"{at:%H:%M}")

    assert found == times


@pytest.mark.parametrize("cron", ["0 * * * *", "30 2 * * *", "0,30 1,2 * * *", "*/15 * * * *", "5 */2 * * *"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "UTC"])
def test_from_wherever_one_begins_the_times_are_the_same(zone: str, cron: str) -> None:
    calendar, dice = calendar_of(cron, zone), random.Random(7)
    for day in ("2026-03-07", "2026-03-28", "2026-04-04", "2026-04-23", "2026-10-03", "2026-10-24", "2026-10-31"):
        start = utc(f"{day} 12:00")
        all_times = []
        for at in calendar.after(start):
            if at > start + 3 * DAY:
                break
            all_times.append(at)
        assert all(later > earlier for earlier, later in pairwise(all_times))
        for _ in range(20):
            begin = start + dice.random() * 2 * DAY
            left = [at for at in all_times if at > begin]
            assert list(islice(calendar.after(begin), len(left[:5]))) == left[:5], begin
        come, more = calendar.come(all_times[0], all_times[-1], 10)
        assert (come, more) == (all_times[-10:], len(all_times) > 10)


@pytest.mark.parametrize(
    ("cron", "first", "days"),
    [
        ("0 0 29 2 *", "2026-01-01 00:00", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 0 29 2 *", "2096-03-01 00:00", ["2104-02-29"]),
        ("0 0 31 * *", "2026-01-31 12:00", ["2026-03-31", "2026-05-31", "2026-07-31"]),
        ("0 0 L * *", "2026-01-31 12:00", ["2026-02-28", "2026-03-31"]),
        ("0 0 13 * FRI", "2026-01-31 12:00", ["2026-02-06", "2026-02-13", "2026-02-20", "2026-02-27", "2026-03-06"]),
        ("0 0 * 2 MON#5", "2026-01-01 00:00", ["2044-02-29"]),
    ],
)
def test_days_that_are_not_in_every_month_or_year(cron: str, first: str, days: list[str]) -> None:
    found = islice(calendar_of(cron, "UTC").after(utc(first)), len(days))

    assert [f"{at:%Y-%m-%d}" for at in found] == days


@pytest.mark.parametrize(
    ("cron", "text"),
    [
        ("0 0 30 2 *", "never comes: there is no such day in these months"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("60 * * * *", "the minute '60' is not one; 0-59 is right"),
        ("0 24 * * *", "the hour '24' is not one"),
        ("0 0 0 * *", "the day of the month '0' is not one"),
        ("0 0 * 13 *", "the month '13' is not one; 1-12 or JAN-DEC is right"),
        ("0 0 * * 8", "the day of the week '8' is not one"),
        ("*/0 * * * *", "the minute '*/0' is not one"),
        ("0 2-1 * * *", "the hour '2-1' is not one"),
        ("0 0 * *", "has 4 fields; five fields are right: minute, hour, day of the month, month, day of the week"),
        ("0 0 0 * * *", "has 6 fields"),
        ("@daily", "has 1 fields"),
        ("", "has 0 fields"),
        (f"{'1,' * 100}1 * * * *", "must have at most 200 characters, got 209"),
        ("٣ * * * *", "the minute '٣' is not one"),
    ],
)
def test_an_expression_that_is_none_is_refused_with_what_would_be_right(cron: str, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        next_times(cron)

    (problem,) = caught.value.errors
    assert problem.path == "cron"
    assert text in problem.message


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "CEST", "../etc/passwd", "localtime", "Europe", "UTC+2"])
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(InvalidInput, match="is no time zone; a name of the IANA database is right") as caught:
        next_times("0 * * * *", zone)

    assert [problem.path for problem in caught.value.errors] == ["timezone"]


def test_a_preview_shows_the_offset_and_marks_what_the_clocks_do() -> None:
    spring = next_times("30 2 * * *", "Europe/Berlin", count=4, after=utc("2026-03-27 12:00"))
    autumn = next_times("30 * * * *", "Europe/Berlin", count=4, after=utc("2026-10-24 23:00"))

    assert [(f"{one.local:%d %H:%M}", one.offset, one.notes) for one in spring] == [
        ("28 02:30", "+01:00", ()),
        ("29 03:00", "+02:00", ("moved", "clocks_changed")),
        ("30 02:30", "+02:00", ()),
        ("31 02:30", "+02:00", ()),
    ]
    assert [(f"{one.local:%d %H:%M}", one.offset, one.notes) for one in autumn] == [
        ("25 01:30", "+02:00", ()),
        ("25 02:30", "+02:00", ("first_of_two",)),
        ("25 02:30", "+01:00", ("second_of_two", "clocks_changed")),
        ("25 03:30", "+01:00", ()),
    ]


def test_ten_times_are_shown_unless_another_number_is_asked_for() -> None:
    times = next_times("* * * * *")

    assert len(times) == 10
    assert times[0].at - timezone.now() <= MINUTE
    for count in (0, 1001, True, "3"):
        with pytest.raises(InvalidInput, match="whole number from 1 to 1,000"):
            next_times("* * * * *", count=count)  # type: ignore[arg-type]


def test_a_year_of_minutes_is_not_counted_through() -> None:
    now = utc("2026-06-01 12:00")
    calendar = calendar_of("* * * * *", "Europe/Berlin")

    come, more = calendar.come(now - 365 * DAY, now, 100)

    assert (len(come), come[-1], more) == (100, now, True)
