"""How often: buckets that fill at an even rate, for each client and for all."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admission.crowd import Door, refuse, welcome
from tieline import CloseReason
from tieline.admission import Client
from tieline.admission.rates import Rate

#: More than clocks and sums are rounded by, and less than anybody waits.
MOMENT = 1e-3


@settings(deadline=None, max_examples=300)
@given(
    st.integers(1, 20),
    st.integers(1, 10),
    st.lists(st.integers(0, 12), max_size=60),
    st.sampled_from([0.0, 1e9]),
)
def test_a_bucket_is_a_bucket_of_tokens(
    rate: int, burst: int, steps: list[int], beginning: float
) -> None:
    """Against the plain one: a count that grows with time, and is never above the burst."""
    bucket = Rate(rate, burst)
    now, full_at = Fraction(0), 0.0
    tokens = Fraction(burst)
    for step in steps:
        # In quarters of the time that one takes to come back.
        passed = Fraction(step, 4 * rate)
        now += passed
        tokens = min(Fraction(burst), tokens + passed * rate)
        at = beginning + float(now)
        seconds = bucket.wait(full_at, at)
        if tokens >= 1:
            assert seconds == 0.0
            full_at = bucket.take(full_at, at)
            tokens -= 1
        else:
            assert seconds == pytest.approx(float((1 - tokens) / rate), abs=1e-5)


def test_a_client_may_come_in_a_burst_and_then_at_its_rate() -> None:
    door = Door(per_client=None, per_client_rate=2.0, per_client_burst=3)
    for _ in range(3):
        welcome(door.admission, "10.0.0.1")
    for _ in range(3):
        assert refuse(door.admission, "10.0.0.1") is CloseReason.CLIENT_RATE
    # Another machine does not notice.
    welcome(door.admission, "10.0.0.2")
    for _ in range(4):
        door.clock.time += 0.5 - MOMENT
        assert refuse(door.admission, "10.0.0.1") is CloseReason.CLIENT_RATE
        door.clock.time += MOMENT
        welcome(door.admission, "10.0.0.1")
    # After a long rest, no more than the burst.
    door.clock.time += 1_000.0
    for _ in range(3):
        welcome(door.admission, "10.0.0.1")
    assert refuse(door.admission, "10.0.0.1") is CloseReason.CLIENT_RATE


def test_a_rate_is_kept_by_a_client_that_goes_and_comes_again() -> None:
    door = Door(per_client_rate=1.0, per_client_burst=2)
    door.pass_by("10.0.0.1")
    door.pass_by("10.0.0.1")
    assert door.admission.clients == {}
    assert door.admission.known == 1
    assert refuse(door.admission, "10.0.0.1") is CloseReason.CLIENT_RATE
    door.clock.time += 1.0
    welcome(door.admission, "10.0.0.1")
    assert refuse(door.admission, "10.0.0.1") is CloseReason.CLIENT_RATE
    # It is known once, be it here or remembered.
    assert door.admission.known == 1


def test_a_refused_attempt_takes_no_token() -> None:
    door = Door(
        per_client=1, per_client_rate=1.0, per_client_burst=2, total_rate=1.0, total_burst=3,
        per_network=2, total=4, reserved=1, reserved_networks=("10.9.0.0/16",),
    )  # fmt: skip
    admission = door.admission
    client = welcome(admission, "10.0.0.1")
    for _ in range(5):
        assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_LIMIT
    # One token is left, and then none, however often it was refused before.
    admission.release(client)
    client = welcome(admission, "10.0.0.1")
    admission.release(client)
    for _ in range(5):
        assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_RATE
    assert admission.delay() == 0.0
    welcome(admission, "10.0.0.2")
    assert admission.delay() == pytest.approx(1.0, abs=1e-5)
    door.clock.time += 3.0
    welcome(admission, "10.0.0.3")
    for _ in range(5):
        assert refuse(admission, "10.0.0.4") is CloseReason.NETWORK_LIMIT
    welcome(admission, "10.0.1.1")
    for _ in range(5):
        assert refuse(admission, "10.0.1.2") is CloseReason.TOTAL_LIMIT
    assert admission.delay() == 0.0


def test_the_first_client_is_not_the_last_to_be_limited() -> None:
    """The first connections of many clients, at one instant: each has a whole bucket."""
    door = Door(per_client_rate=1.0, per_client_burst=1)
    for number in range(500):
        door.pass_by(f"10.0.{number >> 8}.{number & 255}")
    for number in range(500):
        reason = refuse(door.admission, f"10.0.{number >> 8}.{number & 255}")
        assert reason is CloseReason.CLIENT_RATE
    assert door.admission.known == 500


def test_exempt_clients_have_no_rate_of_their_own() -> None:
    door = Door(
        per_client_rate=1.0, per_client_burst=1, exempt_networks=("10.0.0.1",),
        total_rate=1.0, total_burst=5,
    )  # fmt: skip
    for _ in range(5):
        welcome(door.admission, "10.0.0.1")
    # But they are among all.
    assert door.admission.delay() == pytest.approx(1.0, abs=1e-5)


def test_the_rate_of_all_pauses_and_refuses_nobody() -> None:
    door = Door(total_rate=10.0, total_burst=2)
    admission = door.admission
    assert admission.delay() == 0.0
    welcome(admission, "10.0.0.1")
    welcome(admission, "10.0.0.2")
    assert admission.delay() == pytest.approx(0.1, abs=1e-5)
    door.clock.time += 0.05
    assert admission.delay() == pytest.approx(0.05, abs=1e-5)
    # Who accepts all the same (another listener, in the same turn) is let in, and paid for.
    welcome(admission, "10.0.0.3")
    assert admission.delay() == pytest.approx(0.15, abs=1e-5)
    door.clock.time += 0.15
    assert admission.delay() == 0.0


def test_without_a_rate_nobody_waits() -> None:
    door = Door()
    for _ in range(50):
        welcome(door.admission, "10.0.0.1")
    assert door.admission.delay() == 0.0
    assert door.admission.known == 1


def test_a_rate_that_changes_keeps_nobody_out_for_longer_than_it_would() -> None:
    door = Door(per_client_rate=0.01, per_client_burst=2, total_rate=0.01, total_burst=2)
    admission = door.admission
    door.pass_by("10.0.0.1")
    door.pass_by("10.0.0.1")
    inside: list[Client] = []
    assert admission.delay() > 90.0
    door.change(per_client_rate=10.0, total_rate=10.0)
    assert admission.delay() == pytest.approx(0.1, abs=1e-5)
    assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_RATE
    door.clock.time += 0.1
    inside.append(welcome(admission, "10.0.0.1"))
    # The same for one that is in.
    door.change(per_client_rate=0.01)
    door.change(per_client_rate=10.0)
    assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_RATE
    door.clock.time += 0.1
    inside.append(welcome(admission, "10.0.0.1"))
    assert refuse(admission, "10.0.0.1") is CloseReason.CLIENT_RATE
    # Off is off, and on again is a new beginning.
    door.change(per_client_rate=None)
    inside += [welcome(admission, "10.0.0.1") for _ in range(5)]
    for client in inside:
        admission.release(client)
    assert admission.known == 0
    door.change(per_client_rate=1.0)
    welcome(admission, "10.0.0.1")


def test_without_a_rate_nobody_owes_a_token() -> None:
    door = Door(per_client_rate=0.01, per_client_burst=1)
    door.pass_by("10.0.0.1")
    door.admission.penalize("10.0.0.2", 5.0, "slow")
    door.pass_by("10.0.0.2")
    assert door.admission.known == 2
    door.change(per_client_rate=None)
    assert door.admission.known == 1
    door.change(per_client_rate=0.01)
    door.pass_by("10.0.0.1")
    door.pass_by("10.0.0.2")


@pytest.mark.parametrize("is_in", [True, False])
def test_a_rate_that_changes_fills_at_once(is_in: bool) -> None:
    """Not only once somebody has come and been refused."""
    door = Door(per_client_rate=0.01, per_client_burst=2)
    client = welcome(door.admission, "10.0.0.1")
    door.pass_by("10.0.0.1")
    if not is_in:
        door.admission.release(client)
    door.change(per_client_rate=10.0)
    door.clock.time += 0.1
    welcome(door.admission, "10.0.0.1")
    assert refuse(door.admission, "10.0.0.1") is CloseReason.CLIENT_RATE


def test_a_rate_that_changes_reaches_those_not_yet_cleaned() -> None:
    """Of a large table, a share at a time is brought up to date; who comes is so at once."""
    door = Door(per_client_rate=0.001, per_client_burst=1)
    for number in range(20_000):
        door.pass_by(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    door.change(per_client_rate=10.0)
    for number in range(20_000):
        host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        assert refuse(door.admission, host) is CloseReason.CLIENT_RATE
    door.clock.time += 0.1
    for number in range(20_000):
        door.pass_by(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
