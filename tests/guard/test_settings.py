"""The settings of a guard: every one has a rule, and nothing senseless gets in."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tieline import SettingError
from tieline.guard.settings import SETTINGS, GuardSettings


def refused(**changes: Any) -> str:
    """What is said against some settings."""
    with pytest.raises(SettingError) as caught:
        GuardSettings(**changes)
    error = caught.value
    return f"{error} ({error.hint.format(**error.fields)})" if error.hint else str(error)


def test_every_setting_has_a_rule_that_its_default_keeps() -> None:
    settings = GuardSettings()
    assert list(SETTINGS) == [field.name for field in dataclasses.fields(GuardSettings)]
    for name, rule in SETTINGS.items():
        assert rule.help
        assert rule.check(name, getattr(settings, name)) == getattr(settings, name)


def test_the_defaults() -> None:
    assert dataclasses.asdict(GuardSettings()) == {
        "balance": "round-robin", "connect_timeout": 5.0, "tries": 3, "queue": 1000,
        "queue_timeout": 10.0, "check_interval": 2.0, "check_timeout": 2.0, "rise": 2, "fall": 3,
        "check_send": None, "check_expect": None, "passive_failures": 3, "passive_rest": 10.0,
        "recover": 30.0, "resolve_every": 30.0, "send_proxy": "off", "accept_proxy": (),
        "sni": "off", "preamble_timeout": 10.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("balance", "leest"), ("connect_timeout", 0), ("connect_timeout", None), ("tries", 0),
        ("queue", -1), ("queue", 1.5), ("queue_timeout", None), ("check_interval", 0),
        ("check_timeout", None), ("rise", 0), ("fall", None), ("check_send", b""),
        ("check_send", 7), ("check_expect", "\ud800"), ("check_expect", b"x" * 4097),
        ("passive_failures", 0), ("passive_rest", None), ("recover", -1), ("resolve_every", 0),
        ("send_proxy", "v3"), ("accept_proxy", ("10.0.0.1/8",)), ("accept_proxy", "10.0.0.0/8"),
        ("sni", True), ("preamble_timeout", float("nan")),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_named(name: str, value: object) -> None:
    assert refused(**{name: value}).startswith(f"{name} must be ")


def test_what_may_be_off() -> None:
    off = {name for name, rule in SETTINGS.items() if rule.off}
    assert off == {
        "check_interval", "check_send", "check_expect", "passive_failures", "recover",
        "resolve_every",
    }  # fmt: skip
    GuardSettings().replace(**dict.fromkeys(off))
    assert GuardSettings(recover=0).recover == 0
    assert GuardSettings(queue=0).queue == 0


def test_the_words_of_a_check_are_bytes() -> None:
    settings = GuardSettings().replace(check_send="PING\r\n", check_expect=b"\x00\xff")
    assert settings.check_send == b"PING\r\n"
    assert settings.check_expect == b"\x00\xff"
    assert GuardSettings().replace(check_send="好").check_send == "好".encode()


def test_a_word_that_is_nearly_one() -> None:
    assert "'least'" in refused(balance="leest")


def test_some_changed() -> None:
    old = GuardSettings()
    new = old.replace(balance="hash", tries=1)
    assert (new.balance, new.tries, new.queue) == ("hash", 1, old.queue)
    with pytest.raises(SettingError) as caught:
        old.replace(ballance="hash")
    assert caught.value.fields["like"] == "balance"
    with pytest.raises(SettingError):
        old.replace(tries=0)


def test_they_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GuardSettings().tries = 4  # type: ignore[misc]
