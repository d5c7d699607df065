"""`tieline guard --check`: what is wrong is said, and nothing is listened on."""

from __future__ import annotations

import json
import signal
import socket

from cli.command_process import Tieline
from cli.guarded import Service, address_of, written

# ---- --check


def test_a_check_of_what_is_good(tieline: Tieline, service: Service) -> None:
    file = written(
        tieline,
        "[guard]\ntotal = 100\n[guard.listener.tls]\nlisten = '127.0.0.1:7001'\n"
        "upstream = '127.0.0.1:7002'\n"
        "[guard.listener.plain]\nlisten = '127.0.0.1:7002'\n"
        f"upstream = '{service.address},name=x'\n",
    )
    running = tieline.run("guard", "--config", file, "--check")
    assert running.code == 0
    assert running.out.splitlines() == [
        "tls: 127.0.0.1:7001 → 127.0.0.1:7002: all right",
        f"plain: 127.0.0.1:7002 → x ({service.address}): all right",
    ]
    assert running.err == ""
    running = tieline.run("guard", "--config", file, "--check", "--json")
    lines = [json.loads(line) for line in running.out.splitlines()]
    assert [(line["listener"], line["ok"]) for line in lines] == [("tls", True), ("plain", True)]
    running = tieline.run("config", "check", file)
    assert running.err == "g.toml: 5 settings, all right\n"


def test_a_check_without_a_file(tieline: Tieline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # It listens nowhere, so that it can be checked while another runs.
        address = address_of(taken)
        running = tieline.run("guard", address, "127.0.0.1:9", "--check", "--total", "9")
    assert (running.code, running.err) == (0, "")
    assert running.out == f"{address} → 127.0.0.1:9: all right\n"
    running = tieline.run("guard", ":0", "127.0.0.1:9", "--check", "--idle-when-full", "1h")
    assert running.code == 2
    assert "idle_when_full (3600.0) must not be above idle (300.0)" in running.err


def test_a_check_warns_of_names_that_lead_nowhere(tieline: Tieline) -> None:
    running = tieline.run("guard", ":0", "nobody.invalid:1,name=n", "--check", "--total", "9")
    assert running.code == 0
    assert running.err == (
        "upstream n: no address is known for nobody.invalid (check the spelling of the name)\n"
    )
    running = tieline.run("guard", "nobody.invalid:1", "127.0.0.1:9", "--check", "--total", "9")
    assert running.code == 2
    assert "no address is known for nobody.invalid" in running.err


def test_a_check_looks_names_up_to_find_circles(tieline: Tieline) -> None:
    running = tieline.run("guard", "127.0.0.1:7001", "localhost:7001", "--check", "--total", "9")
    assert running.code == 2
    assert "upstream localhost:7001 leads back to where it comes from" in running.err


def test_a_total_beyond_the_descriptors_is_said(tieline: Tieline, service: Service) -> None:
    for arguments in (["--check"], []):
        running = tieline.start(
            "guard", "127.0.0.1:0", service.address, "--total", "10M", *arguments
        )
        line = running.error_line("this machine allows")
        assert "open files, and 10000000 sessions need 20000160: there is room for " in line
        running.send_signal(signal.SIGTERM)
