"""Addresses to call from, and the arithmetic of ports and descriptors beforehand."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.command_process import PATIENCE, Tieline
from tieline import SettingError
from tieline.address import Address, parse_address
from tieline.bench import Ending, Mode, Plan
from tieline.bench.messages import Constant
from tieline.bench.sources import Shortage, expand, shortages
from tieline.doctor import OF_A_PROCESS, Machine, PortRange

#: Ports of the machine of these tests: as Linux has them by default.
PORTS = 28_232

LOCAL = "127.0.0.1:7000"
FAR = "192.0.2.1:7000"


def machine(**facts: Any) -> Machine:
    """A machine as it comes."""
    defaults = {
        "ports": PortRange(32_768, 60_999), "time_wait_reuse": 2, "hard_descriptors": 1_000_000,
    }  # fmt: skip
    return Machine(**{**defaults, **facts})


def found(address: str = LOCAL, on: Machine | None = None, **options: Any) -> list[Shortage]:
    """What will run out."""
    defaults = {"mode": Mode.SHORT, "messages": Constant(b"ping"), "connections": 10}
    plan = Plan(address=parse_address(address), **{**defaults, **options})
    return shortages(plan, machine() if on is None else on)


def said(shortage: Shortage) -> str:
    """The sentence and the hint, as they are shown."""
    both = f"{shortage.template}; {shortage.hint}"
    return both.format(**shortage.fields)


# ---- Addresses


@pytest.mark.parametrize(
    ("words", "addresses"),
    [
        ([], ()),
        (["127.0.0.2"], ("127.0.0.2",)),
        ([" 127.0.0.2 "], ("127.0.0.2",)),
        (["127.0.0.2-127.0.0.4"], ("127.0.0.2", "127.0.0.3", "127.0.0.4")),
        (["127.0.0.2 - 127.0.0.3"], ("127.0.0.2", "127.0.0.3")),
        (["127.0.0.254-127.0.1.1"], ("127.0.0.254", "127.0.0.255", "127.0.1.0", "127.0.1.1")),
        (["127.0.0.8/30"], ("127.0.0.9", "127.0.0.10")),
        (["127.0.0.9/30"], ("127.0.0.9", "127.0.0.10")),
        (["127.0.0.9/32"], ("127.0.0.9",)),
        (["127.0.0.3", "127.0.0.2", "127.0.0.2-127.0.0.4"],
         ("127.0.0.3", "127.0.0.2", "127.0.0.4")),
    ],
)  # fmt: skip
def test_words_and_the_addresses_they_stand_for(
    words: list[str], addresses: tuple[str, ...]
) -> None:
    assert expand(words) == addresses


def test_an_ipv6_address() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    assert expand(["::1", "::1-::1", "::1/128"]) == ("::1",)


@pytest.mark.parametrize(
    "word",
    ["", "-", "/", "localhost", "127.0.0.1:80", "127.0.0.4-127.0.0.2", "127.0.0.1-::2",
     "127.0.0.1-", "-127.0.0.1", "127.0.0.1/33", "127.0.0.1/x", "fe80::1%lo-fe80::2%lo", "1"],
)  # fmt: skip
def test_what_is_no_address(word: str) -> None:
    with pytest.raises(SettingError, match="is no address of this machine, nor a range") as caught:
        expand([word])
    assert "127.0.0.2-127.0.0.9" in caught.value.hint


@pytest.mark.parametrize("word", ["127.0.0.0/8", "127.0.0.1-127.0.16.1", "::1/64"])
def test_a_range_that_is_too_large_is_said_to_be(word: str) -> None:
    with pytest.raises(SettingError, match=f"'{word}' has more than 4096 addresses"):
        expand([word])


def test_the_largest_range() -> None:
    assert len(expand(["127.0.0.1-127.0.16.0"])) == 4096


@pytest.mark.parametrize("word", ["192.0.2.1", "192.0.2.1-192.0.2.2", "2001:db8::1"])
def test_an_address_of_another_machine(word: str) -> None:
    with pytest.raises(SettingError, match="is no address of this machine: "):
        expand([word])


@pytest.mark.parametrize("word", ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"])
def test_an_address_from_which_nobody_calls(word: str) -> None:
    with pytest.raises(SettingError, match=f"nothing can be called from {re.escape(word)}"):
        expand([word])


@given(st.text(st.sampled_from("0123456789abcdef.:/-% "), max_size=24))
def test_whatever_is_written_is_addresses_or_a_sentence(word: str) -> None:
    try:
        told = str(expand([word]))
    except SettingError as error:
        told = str(error)
    assert told


# ---- Ports


def test_most_plans_lack_nothing() -> None:
    assert not found()
    assert not found(mode=Mode.LONG, address=FAR)
    assert not found(mode=Mode.HOLD, address=FAR, connections=PORTS, messages=None)


def test_more_connections_than_ports() -> None:
    (shortage,) = found(mode=Mode.HOLD, connections=100_000, messages=None)
    assert shortage.fields == {
        "connections": 100_000, "address": LOCAL, "ports": PORTS, "needed": 4,
    }  # fmt: skip
    assert "call from 4 addresses" in said(shortage)


def test_more_sources_have_more_ports() -> None:
    four = expand(["127.0.0.2-127.0.0.5"])
    assert not found(mode=Mode.HOLD, connections=100_000, messages=None, sources=four)
    (shortage,) = found(mode=Mode.HOLD, connections=100_000, messages=None, sources=four[:3])
    assert "100000 connections" in said(shortage)


def test_a_machine_without_ports() -> None:
    (shortage,) = found(on=machine(ports=PortRange(5, 4)), mode=Mode.LONG)
    assert "has 0" in said(shortage)


def test_short_connections_faster_than_ports_come_back() -> None:
    (shortage,) = found(address=FAR, rate=2_000.0, duration=30.0)
    assert shortage.fields == {
        "rate": "2000", "ports": PORTS, "after": "14", "rest": "60", "lasting": 470,
    }  # fmt: skip
    assert "--close reset" in said(shortage)


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 400.0},
        {"rate": 2_000.0, "duration": 10.0},
        {"rate": 2_000.0, "duration": None, "count": 28_000},
        {"rate": 2_000.0, "ending": Ending.RESET},
        {"rate": 2_000.0, "ending": Ending.SERVER},
        {"rate": 2_000.0, "mode": Mode.LONG},
        {"rate": 2_000.0, "mode": Mode.LONG, "exchanges": 10},
        {"rate": 2_000.0, "mode": Mode.MIXED, "short_share": 0.2},
        {"duration": None, "count": 28_000},
        {"mode": Mode.MIXED, "short_share": 0.0},
        {"mode": Mode.STORM, "connections": 20_000},
    ],
)
def test_plans_whose_ports_will_do(options: dict[str, Any]) -> None:
    assert not found(address=FAR, **{"duration": 60.0, **options})


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({"rate": 2_000.0}, "2000"),
        ({"rate": 2_000.0, "duration": 10.0, "warmup": 5.0}, "2000"),
        ({"rate": 2_000.0, "duration": None, "count": 30_000}, "2000"),
        ({"rate": 2_000.0, "mode": Mode.LONG, "exchanges": 2}, "1000"),
        ({"rate": 2_000.0, "mode": Mode.MIXED, "short_share": 0.5}, "1000"),
        ({}, None),
        ({"duration": None, "count": 30_000}, None),
        ({"mode": Mode.MIXED}, None),
    ],
)
def test_plans_whose_ports_will_not(options: dict[str, Any], rate: str | None) -> None:
    (shortage,) = found(address=FAR, **{"duration": 60.0, **options})
    assert shortage.fields.get("rate") == rate
    assert shortage.fields["lasting"] == 470
    assert "{" not in said(shortage)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]", ""])
def test_on_the_loopback_ports_rest_for_a_second(host: str) -> None:
    address = f"{host}:7000"
    assert not found(address=address, rate=20_000.0, duration=60.0)
    (shortage,) = found(address=address, rate=40_000.0, duration=60.0)
    assert (shortage.fields["rest"], shortage.fields["lasting"]) == ("1", PORTS)
    assert shortage.fields["after"] == "0.71"


def test_reuse_of_ports_is_the_kernels_choice() -> None:
    assert not found(address=FAR, on=machine(time_wait_reuse=1), rate=20_000.0, duration=60.0)
    (shortage,) = found(on=machine(time_wait_reuse=0), rate=20_000.0, duration=60.0)
    assert shortage.fields["rest"] == "60"


def test_more_sources_go_on_longer() -> None:
    two = expand(["127.0.0.2-127.0.0.3"])
    (shortage,) = found(address="127.0.0.1:7", rate=60_000.0, duration=60.0, sources=two)
    assert (shortage.fields["ports"], shortage.fields["lasting"]) == (2 * PORTS, 2 * PORTS)


def test_what_is_not_known_is_not_warned_of() -> None:
    assert not found(address=FAR, on=Machine(), connections=100_000, duration=60.0)
    assert not found(address=FAR, on=machine(time_wait_reuse=None), duration=60.0)


def test_a_unix_socket_has_no_ports() -> None:
    assert not found(address="unix:/run/x", connections=100_000)


# ---- Descriptors


def test_as_many_connections_as_there_are_descriptors() -> None:
    on = machine(hard_descriptors=1000)
    assert not found(on=on, connections=1000 - OF_A_PROCESS)
    with pytest.raises(SettingError) as caught:
        found(on=on, connections=1001 - OF_A_PROCESS)
    assert "1001 open files in each, and 1000 are allowed" in str(caught.value)


def test_more_processes_have_more_descriptors() -> None:
    on = machine(hard_descriptors=1000)
    with pytest.raises(SettingError, match="2000 connections in 2 processes"):
        found(on=on, connections=2000, processes=2)
    assert not found(on=on, connections=2000, processes=3)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_most_connections_that_are_let_pass_are_had(processes: int, tmp_path: Path) -> None:
    allowed = 100
    own = OF_A_PROCESS + (0 if processes == 1 else 2 + 2 * processes)
    most = (allowed - own) * processes

    def hold(connections: int, port: int) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable, "-m", "tieline", "bench", f"127.0.0.1:{port}", "--mode", "hold",
            "-c", str(connections), "--processes", str(processes), "--duration", "200ms", "--json",
        ]  # fmt: skip
        return subprocess.run(
            ["sh", "-c", f'ulimit -n {allowed}; exec "$@"', "sh", *command],
            env=Tieline(tmp_path).environment({}), cwd=tmp_path, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    # Its connections are made, and wait: to hold them nobody needs to take them.
    with socket.create_server(("127.0.0.1", 0), backlog=1_000) as server:
        port = server.getsockname()[1]
        told = json.loads(hold(most, port).stdout)
        assert (told["held_most"], told["failures"]) == (most, {})
        refused = hold(most + 1, port)
    assert refused.returncode == 2
    assert f"and {allowed} are allowed" in refused.stderr


# ---- Kinds of addresses


@pytest.mark.parametrize(
    ("address", "sources"),
    [("[::1]:7", ("127.0.0.2",)), ("127.0.0.1:7", ("127.0.0.2", "::1")), ("127.0.0.1:7", ("::1",))],
)
def test_sources_of_another_kind_than_the_address(address: str, sources: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match=r"speaks IPv[46] and cannot be called from"):
        found(address=address, sources=sources)


def test_a_name_may_be_of_either_kind_but_not_of_both() -> None:
    assert not found(address="localhost:7", sources=("127.0.0.2", "127.0.0.3"))
    assert not found(address="localhost:7", sources=("::1",))
    with pytest.raises(SettingError, match="some sources are IPv4 and some IPv6: ::1"):
        found(address="localhost:7", sources=("127.0.0.2", "::1"))


def test_this_machine_is_looked_at() -> None:
    plan = Plan(address=Address("127.0.0.1", 7), messages=Constant(b"x"))
    assert not shortages(plan)
