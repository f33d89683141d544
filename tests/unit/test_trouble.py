"""What goes wrong with many is said once of each."""

from __future__ import annotations

from structlog.testing import capture_logs

from osdetectord import trouble
from osdetectord.trouble import Troubles


def fail(troubles, *names):
    for name in names:
        with troubles.apart(name):
            raise ZeroDivisionError


def test_what_goes_wrong_with_thousands_at_once_is_said_once_of_each():
    troubles, names = Troubles("%s fails", "%s works again"), [str(number) for number in range(4096)]
    with capture_logs() as logs:
        fail(troubles, *names, *names)
    assert len(logs) == len(names)


def test_the_trouble_that_is_forgotten_is_one_that_came_no_more(monkeypatch):
    monkeypatch.setattr(trouble, "MOST_LASTING", 3)
    troubles = Troubles("%s fails", "%s works again")
    with capture_logs() as logs:
        for once in ("c", "d", "e", "f"):
            fail(troubles, "a", "b", once)
    assert len(logs) == len("abcdef")
