"""Limits: finite by default, and refused where they make no sense."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from tieline.errors import SettingError
from tieline.limits import DEFAULT_MAXIMUM, Limits

FIELDS = {field.name: field for field in dataclasses.fields(Limits)}
TIMES = ["idle", "first_byte", "message", "handshake", "closing"]
MAY_BE_OFF = ["idle", "first_byte", "message", "per_client", "per_network", "total"]
PREFIXES = {
    "client_ipv4_prefix": 32,
    "client_ipv6_prefix": 128,
    "network_ipv4_prefix": 32,
    "network_ipv6_prefix": 128,
}


def limits_with(**changed: Any) -> Limits:
    return Limits(**changed)


def test_defaults_are_finite_and_valid() -> None:
    limits = Limits()
    for name in FIELDS:
        value = getattr(limits, name)
        # A wider network may be a whole office behind one gateway: off until asked for.
        if name == "per_network":
            assert value is None
        else:
            assert 0 < value < math.inf
            assert not isinstance(value, bool)
    assert limits.max_message == DEFAULT_MAXIMUM == 65_536


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_says_its_unit_and_meaning(name: str) -> None:
    metadata = FIELDS[name].metadata
    assert metadata["unit"] in ("seconds", "connections", "bits", "bytes")
    assert (metadata["unit"] == "seconds") is (name in TIMES)
    assert len(metadata["help"]) > 20


@pytest.mark.parametrize("name", MAY_BE_OFF)
def test_limits_that_may_be_off(name: str) -> None:
    assert getattr(limits_with(**{name: None}), name) is None


@pytest.mark.parametrize("name", sorted(set(FIELDS) - set(MAY_BE_OFF)))
def test_limits_that_may_not_be_off(name: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} .*not None"):
        limits_with(**{name: None})


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [-1, -0.5, math.nan, math.inf, -math.inf, True, False, "7", [7]])
def test_values_that_are_no_limit(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"^{name} must be ") as caught:
        limits_with(**{name: value})
    assert str(caught.value).endswith(f"not {value!r}")
    assert (" or None" in str(caught.value)) is (name in MAY_BE_OFF)


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"low_water"}))
def test_zero_is_no_limit(name: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} .*not 0"):
        limits_with(**{name: 0})


@pytest.mark.parametrize("name", sorted(set(FIELDS) - set(TIMES)))
def test_counts_and_sizes_are_whole(name: str) -> None:
    with pytest.raises(SettingError, match=r"whole number .*not 20000\.5"):
        limits_with(**{name: 20000.5})


@pytest.mark.parametrize("name", TIMES)
def test_times_may_be_parts_of_a_second(name: str) -> None:
    for value in (0.001, 7):
        assert getattr(limits_with(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "most"), PREFIXES.items())
def test_prefixes_are_within_an_address(name: str, most: int) -> None:
    for value in (1, most):
        assert getattr(limits_with(**{name: value}), name) == value
    with pytest.raises(SettingError, match=f"^{name} .* from 1 to {most}, not {most + 1}"):
        limits_with(**{name: most + 1})


def test_limits_that_do_not_go_together_say_both_values() -> None:
    with pytest.raises(SettingError, match=r"low_water \(70000\) .* high_water \(70000\)"):
        Limits(low_water=70_000, high_water=70_000)
    with pytest.raises(SettingError, match=r"max_owed \(65535\) .* high_water \(65536\)"):
        Limits(max_owed=65_535)
    assert Limits(low_water=0, high_water=1, max_owed=1).max_owed == 1


def test_limits_cannot_be_changed() -> None:
    limits = Limits()
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.idle = 1.0  # type: ignore[misc]
    assert dataclasses.replace(limits, idle=1.0) == Limits(idle=1.0)
