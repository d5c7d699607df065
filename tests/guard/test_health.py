"""Whether an upstream is up: checks with hysteresis, rests that double, one session that tries."""

from __future__ import annotations

import pytest

from tieline.guard.health import Health
from tieline.guard.settings import GuardSettings

SETTINGS = GuardSettings(rise=2, fall=3, passive_failures=3, passive_rest=10.0, connect_timeout=5.0)


class Story:
    """A health, a clock, and what happens: `+` and `-` are checks, `c` and `f` sessions that
    connect or fail, `t` one that tries."""

    def __init__(self, settings: GuardSettings = SETTINGS) -> None:
        self.settings = settings
        self.health = Health()
        self.now = 1_000.0

    def tell(self, happenings: str) -> str:
        """Let things happen; after each, `U` stands for up and `d` for down."""
        return "".join(self._tell(each) for each in happenings)

    def _tell(self, happening: str) -> str:
        health = self.health
        if happening == "+":
            health.check_passed(self.settings, self.now)
        elif happening == "-":
            health.check_failed(self.settings)
        elif happening == "c":
            health.connected()
        elif happening == "f":
            health.failed(self.settings, self.now)
        else:
            assert health.may_be_tried(self.now)
            health.begin_trial(self.settings, self.now)
        return "U" if health.is_up else "d"

    def seconds_of_rest(self) -> float:
        return self.health.retry_at - self.now


def test_it_is_up_until_something_else_is_found() -> None:
    assert Health().is_up


@pytest.mark.parametrize(
    ("happenings", "states"),
    [
        ("---", "UUd"),
        ("--+--", "UUUUU"),
        ("--+---", "UUUUUd"),
        ("---+", "UUdd"),
        ("---++", "UUddU"),
        ("---+-++", "UUddddU"),
        ("---++--", "UUddUUU"),
        ("---c", "UUdd"),  # a session that connects does not overrule the checks
    ],
)
def test_checks_take_several_in_a_row_to_change_it(happenings: str, states: str) -> None:
    assert Story().tell(happenings) == states


@pytest.mark.parametrize(
    ("happenings", "states"),
    [("fff", "UUd"), ("ffcff", "UUUUU"), ("ffcfff", "UUUUUd"), ("fffc", "UUdU")],
)
def test_sessions_that_fail_in_a_row_take_it_out(happenings: str, states: str) -> None:
    assert Story().tell(happenings) == states


def test_failures_count_only_where_they_are_to() -> None:
    story = Story(SETTINGS.replace(passive_failures=None))
    assert story.tell("f" * 20) == "U" * 20


def test_after_its_rest_it_may_be_tried_once() -> None:
    story = Story()
    story.tell("fff")
    assert story.seconds_of_rest() == 10.0
    assert not story.health.may_be_tried(story.now + 9.9)
    story.now += 10.0
    assert story.tell("t") == "d"
    assert not story.health.may_be_tried(story.now)
    assert story.tell("c") == "U"


def test_each_trial_that_fails_doubles_the_rest_up_to_eightfold() -> None:
    story = Story()
    story.tell("fff")
    rests = []
    for _ in range(6):
        rests.append(story.seconds_of_rest())
        story.now = story.health.retry_at
        assert story.tell("tf") == "dd"
    assert rests == [10.0, 20.0, 40.0, 80.0, 80.0, 80.0]


def test_failures_of_sessions_from_before_do_not_double_it() -> None:
    story = Story()
    story.tell("fff")
    story.now += 3.0
    story.tell("fffff")
    assert story.seconds_of_rest() == 7.0


def test_a_trial_that_never_says_how_it_went_lets_another_try() -> None:
    story = Story()
    story.tell("fff")
    story.now += 10.0
    story.tell("t")
    assert not story.health.may_be_tried(story.now + 9.0)
    story.now += 10.0
    assert story.tell("tc") == "dU"


def test_a_trial_has_the_time_that_connecting_may_take() -> None:
    story = Story(SETTINGS.replace(passive_rest=1.0, connect_timeout=30.0))
    story.tell("fff")
    story.now += 1.0
    story.tell("t")
    assert not story.health.may_be_tried(story.now + 29.0)
    assert story.health.may_be_tried(story.now + 30.0)


def test_checks_that_pass_end_the_first_rest() -> None:
    story = Story()
    assert story.tell("++fff") == "UUUUd"
    # Those from before do not count.
    assert story.tell("+") == "d"
    assert story.tell("+") == "U"


def test_checks_that_were_wrong_once_do_not_end_the_next_rest() -> None:
    """They pass, but sessions fail: TLS is broken there, say."""
    story = Story()
    assert story.tell("fff++") == "UUddU"
    assert story.tell("fff++++") == "UUddddd"
    assert story.seconds_of_rest() == 20.0
    story.now += 20.0
    assert story.tell("+") == "U"
    # A session that connects makes them as good as new.
    assert story.tell("cfff++") == "UUUddU"


def test_nobody_tries_what_the_checks_say_is_down() -> None:
    story = Story()
    story.tell("fff---")
    story.now += 100.0
    assert not story.health.may_be_tried(story.now)
    # It is back with the checks, and the rest is over too.
    assert story.tell("+") == "d"
    assert story.tell("+") == "U"


def test_without_checks_a_session_tries_what_they_took_out() -> None:
    story = Story()
    story.tell("---")
    story.health.take_over(SETTINGS.replace(check_interval=None), story.now)
    assert not story.health.is_up
    assert story.tell("tc") == "dU"


def test_without_either_it_is_up() -> None:
    off = SETTINGS.replace(check_interval=None, passive_failures=None)
    for happenings in ("---", "fff", "fff---"):
        story = Story()
        story.tell(happenings)
        story.health.take_over(off, story.now)
        assert story.health.is_up
    # What the others see stays.
    story = Story()
    story.tell("fff---")
    story.health.take_over(SETTINGS.replace(passive_failures=None), story.now)
    assert not story.health.is_up


def test_at_another_place_it_may_be_tried_at_once() -> None:
    story = Story()
    story.tell("fff")
    story.health.end_rest(story.now)
    assert story.tell("tc") == "dU"
    story.health.end_rest(story.now)
    assert story.health.is_up
