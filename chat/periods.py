"""Days, weeks and months in the organisation's time zone."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings


def window(period: str, at: datetime) -> tuple[datetime, datetime]:
    """Start and end (exclusive) of the day, week or month around a moment.

    Both ends are local midnights, so that a day on which the clocks change has 23 or 25 hours.
    """
    zone = ZoneInfo(settings.TIME_ZONE)
    day = at.astimezone(zone).date()
    if period == "day":
        first, after = day, day + timedelta(days=1)
    elif period == "week":
        first = day - timedelta(days=day.weekday())
        after = first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
    return _midnight(first, zone), _midnight(after, zone)


def _midnight(day, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone)
