"""Limits: finite by default, and refused where they make no sense."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.errors import SettingError
from tieline.limits import (
    DEFAULT_MAXIMUM,
    LIMIT_OF_REASON,
    PENALTY_OF_REASON,
    RULES,
    Limits,
)
from tieline.reasons import CloseReason

FIELDS = {field.name: field for field in dataclasses.fields(Limits)}
NUMBERS = {
    name
    for name, rule in RULES.items()
    if rule.unit not in ("choice", "limits", "networks", "text")
}
WHOLE = {n for n in NUMBERS if RULES[n].unit in ("bits", "bytes", "clients", "connections")}
CHOICES = {
    "total_full": ("wait", "evict"),
    "client_full": ("refuse", "evict"),
    "table_full": ("share", "refuse", "admit"),
}
NETWORKS = {"reserved_networks", "exempt_networks"}
MAY_BE_OFF = {
    "idle", "receive_idle", "send_idle", "idle_when_full", "first_byte", "message", "write_stall",
    "half_closed", "lifetime", "min_receive_rate", "min_send_rate", "total", "per_client",
    "per_network", "total_rate", "per_client_rate", "refusal",
}  # fmt: skip
#: What could hurt a well-meaning client is off until it is asked for.
OFF_FROM_THE_START = {
    "receive_idle", "send_idle", "idle_when_full", "lifetime", "per_network", "total_rate",
    "per_client_rate", "refusal",
}  # fmt: skip
MAY_BE_ZERO = {
    "lifetime_jitter", "reserved", "low_water", "penalty_refused", "penalty_slow",
    "penalty_malformed", "penalty_tls",
}  # fmt: skip
PREFIXES = {
    "client_ipv4_prefix": 32,
    "client_ipv6_prefix": 128,
    "network_ipv4_prefix": 32,
    "network_ipv6_prefix": 128,
}


def limits_with(**changed: Any) -> Limits:
    return Limits(**changed)


# ---- The defaults


def test_what_keeps_a_server_alive_is_finite_from_the_start() -> None:
    limits = Limits()
    for name in NUMBERS - OFF_FROM_THE_START:
        value = getattr(limits, name)
        assert 0 <= value < math.inf, name
        assert value > 0 or name in MAY_BE_ZERO, name
        assert not isinstance(value, bool)
    assert limits.max_message == DEFAULT_MAXIMUM == 65_536


def test_what_could_hurt_the_well_meaning_is_off_from_the_start() -> None:
    limits = Limits()
    for name in OFF_FROM_THE_START:
        assert getattr(limits, name) is None, name
    # A server waits and refuses; it takes nobody's connection away, and nobody to account.
    assert (limits.total_full, limits.client_full) == ("wait", "refuse")
    assert limits.penalty_refused == limits.penalty_slow == limits.penalty_malformed == 0
    assert limits.penalty_tls == 0
    assert limits.reserved == 0
    assert limits.dry_run == limits.exempt_networks == limits.reserved_networks == ()
    # "Unknown" is not "unlimited".
    assert limits.table_full == "share"


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_its_rule(name: str) -> None:
    rule = RULES[name]
    assert FIELDS[name].metadata["rule"] is rule
    assert rule.off is (name in MAY_BE_OFF)
    assert len(rule.help) > 20
    assert "{" not in rule.help
    assert rule.check(name, FIELDS[name].default) == FIELDS[name].default


def test_names_say_what_they_are() -> None:
    """A unit for each kind, and no field that this file does not know."""
    assert set(CHOICES) | NETWORKS | {"refusal", "dry_run"} | NUMBERS == set(FIELDS) == set(RULES)
    assert {name for name in FIELDS if name.endswith("_prefix")} == set(PREFIXES)
    assert {RULES[name].unit for name in PREFIXES} == {"bits"}
    assert {RULES[name].unit for name in CHOICES} == {"choice"}
    assert {RULES[name].unit for name in NETWORKS} == {"networks"}
    for name in FIELDS:
        rate = RULES[name].unit.endswith(" a second")
        assert rate is (name.endswith("_rate")), name


# ---- One value


@pytest.mark.parametrize("name", sorted(MAY_BE_OFF))
def test_limits_that_may_be_off(name: str) -> None:
    assert getattr(limits_with(**{name: None}), name) is None


@pytest.mark.parametrize("name", sorted(set(FIELDS) - MAY_BE_OFF))
def test_limits_that_may_not_be_off(name: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} .*not None"):
        limits_with(**{name: None})


@pytest.mark.parametrize("name", sorted(NUMBERS))
@pytest.mark.parametrize("value", [-1, -0.5, math.nan, math.inf, -math.inf, True, False, "7", [7]])
def test_values_that_are_no_limit(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"^{name} must be ") as caught:
        limits_with(**{name: value})
    assert str(caught.value).endswith(f"not {value!r}")
    assert (" or None" in str(caught.value)) is (name in MAY_BE_OFF)


@pytest.mark.parametrize("name", sorted(NUMBERS - MAY_BE_ZERO))
def test_zero_is_no_limit(name: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} .*not 0"):
        limits_with(**{name: 0})


@pytest.mark.parametrize("name", sorted(MAY_BE_ZERO))
def test_where_zero_is_a_limit(name: str) -> None:
    assert getattr(limits_with(**{name: 0}), name) == 0


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_counts_and_sizes_are_whole(name: str) -> None:
    with pytest.raises(SettingError, match=r"whole number .*not 20000\.5"):
        limits_with(**{name: 20000.5})


@pytest.mark.parametrize("name", sorted(NUMBERS - WHOLE - {"penalty_most"}))
def test_times_and_rates_may_be_parts(name: str) -> None:
    for value in (0.001, 1):
        assert getattr(limits_with(**{name: value}), name) == value


def test_a_share_is_at_most_the_whole() -> None:
    with pytest.raises(
        SettingError, match=r"^lifetime_jitter must be a share from 0 to 1, not 1\.5"
    ):
        Limits(lifetime_jitter=1.5)


@pytest.mark.parametrize(("name", "most"), PREFIXES.items())
def test_prefixes_are_within_an_address(name: str, most: int) -> None:
    for value in (1, most):
        assert getattr(limits_with(**{name: value}), name) == value
    with pytest.raises(SettingError, match=f"^{name} .* from 1 to {most}, not {most + 1}"):
        limits_with(**{name: most + 1})


@pytest.mark.parametrize(("name", "choices"), CHOICES.items())
def test_choices(name: str, choices: tuple[str, ...]) -> None:
    for choice in choices:
        assert getattr(limits_with(**{name: choice}), name) == choice
    with pytest.raises(SettingError, match=f"^{name} must be one of {', '.join(choices)}, not"):
        limits_with(**{name: "perhaps"})


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_networks_are_kept_as_a_tuple(name: str) -> None:
    limits = limits_with(**{name: ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]})
    assert getattr(limits, name) == ("10.0.0.0/8", "2001:db8::/32", "192.0.2.7")
    assert hash(limits) == hash(limits_with(**{name: tuple(getattr(limits, name))}))


def test_what_may_be_tried_is_what_refuses_or_closes() -> None:
    assert RULES["dry_run"].choices == tuple(LIMIT_OF_REASON.values())
    assert set(LIMIT_OF_REASON.values()) <= set(FIELDS)
    assert Limits(dry_run=("idle", "per_client")).dry_run == ("idle", "per_client")
    with pytest.raises(SettingError, match=r"^dry_run .*not 'total'"):
        Limits(dry_run=("total",))


def test_a_penalty_has_a_limit_that_says_how_much() -> None:
    assert set(PENALTY_OF_REASON.values()) <= set(FIELDS)
    # What ends in good order, or by our own decision, is no offence.
    assert not any(reason.in_good_order for reason in PENALTY_OF_REASON)
    assert CloseReason.IDLE_TIMEOUT not in PENALTY_OF_REASON


# ---- Several values


def test_limits_that_do_not_go_together_say_both_values() -> None:
    with pytest.raises(SettingError, match=r"low_water \(70000\) .* high_water \(70000\)"):
        Limits(low_water=70_000, high_water=70_000)
    with pytest.raises(SettingError, match=r"high_water \(65536\) .* max_owed \(65535\)"):
        Limits(max_owed=65_535)
    assert Limits(low_water=0, high_water=1, max_owed=1).max_owed == 1


@pytest.mark.parametrize(
    ("refused", "allowed"),
    [
        ({"idle": 60, "idle_when_full": 61}, {"idle": 60, "idle_when_full": 60}),
        ({"penalty_threshold": 600.0}, {"penalty_threshold": 599.0}),
        (
            {"total": 10, "reserved": 10, "reserved_networks": ["10.0.0.0/8"]},
            {"total": 10, "reserved": 9, "reserved_networks": ["10.0.0.0/8"]},
        ),
        ({"reserved": 1}, {"reserved_networks": ["10.0.0.0/8"]}),
        (
            {"per_network": 5, "network_ipv4_prefix": 32, "client_ipv4_prefix": 24},
            {"network_ipv4_prefix": 32, "client_ipv4_prefix": 24},  # nothing is counted by it
        ),
        (
            {"per_network": 5, "network_ipv6_prefix": 65},
            {"per_network": 5, "network_ipv6_prefix": 64},
        ),
    ],
)
def test_pairs(refused: dict[str, Any], allowed: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        limits_with(**refused)
    assert list(refused)[-1].removesuffix("_networks") in str(caught.value)
    for name, value in allowed.items():
        kept = getattr(limits_with(**allowed), name)
        assert kept == (tuple(value) if isinstance(value, list) else value)


def test_a_limit_that_is_off_contradicts_none() -> None:
    assert Limits(idle=None, idle_when_full=1_000).idle is None
    assert Limits(total=None, reserved=5, reserved_networks=("10.0.0.0/8",)).reserved == 5


# ---- Changing


def test_limits_cannot_be_changed() -> None:
    limits = Limits()
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.idle = 1.0  # type: ignore[misc]
    assert dataclasses.replace(limits, idle=1.0) == Limits(idle=1.0)


def test_others_can_be_made_of_them() -> None:
    limits = Limits(idle=10, per_client=3)
    changed = limits.replace(idle=None, exempt_networks=["10.0.0.0/8"])
    assert changed == Limits(idle=None, per_client=3, exempt_networks=("10.0.0.0/8",))
    assert limits == Limits(idle=10, per_client=3)
    assert limits.replace() == limits


@pytest.mark.parametrize(
    ("name", "like"), [("idel", "idle"), ("per_clients", "per_client"), ("zzz", "")]
)
def test_a_limit_that_there_is_not(name: str, like: str) -> None:
    with pytest.raises(SettingError, match=f"there is no limit '{name}'") as caught:
        Limits().replace(**{name: 1})
    assert caught.value.fields["like"] == like
    assert bool(caught.value.hint) is bool(like)


def test_a_change_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(SettingError, match="idle"):
        Limits().replace(idle=-1)
    with pytest.raises(SettingError, match="low_water"):
        Limits().replace(low_water=70_000)


# ---- Idle, as places are taken


def test_idle_stays_while_there_is_room() -> None:
    limits = Limits(idle=300, idle_when_full=10)
    assert [limits.idle_at(share) for share in (0.0, 0.25, 0.5)] == [300, 300, 300]


def test_idle_shrinks_evenly_from_half_full_to_full() -> None:
    limits = Limits(idle=300, idle_when_full=100)
    assert limits.idle_at(0.75) == pytest.approx(200)
    assert limits.idle_at(1.0) == pytest.approx(100)
    # A count may be above its limit, after that was lowered.
    assert limits.idle_at(1.7) == pytest.approx(100)


@given(st.lists(st.floats(0, 2), min_size=2, max_size=10), st.floats(1, 500), st.floats(1, 500))
def test_idle_never_grows_as_places_are_taken(
    shares: list[float], one: float, other: float
) -> None:
    limits = Limits(idle=max(one, other), idle_when_full=min(one, other))
    found = [limits.idle_at(share) for share in sorted(shares)]
    numbers = [value for value in found if value is not None]
    assert len(numbers) == len(found)
    assert all(later <= earlier for earlier, later in itertools.pairwise(numbers))
    assert all(min(one, other) <= value + 1e-9 <= max(one, other) + 1e-6 for value in numbers)


def test_idle_does_not_shrink_unless_asked_to() -> None:
    assert Limits(idle=300).idle_at(1.0) == 300
    assert Limits(idle=None).idle_at(1.0) is None
    # Nothing to shrink from: it is off while there is room, and on when there is not.
    assert Limits(idle=None, idle_when_full=10).idle_at(0.5) is None
    assert Limits(idle=None, idle_when_full=10).idle_at(0.9) == 10
