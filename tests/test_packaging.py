"""What is in packaging/ fits the command, and is explained."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from tieline.cli.app import COMMANDS, group
from tieline.cli.exits import Exit
from tieline.cli.options import keys

ROOT = Path(__file__).parent.parent
PACKAGING = ROOT / "packaging"
README = (PACKAGING / "README.md").read_text("utf-8")
SERVICES = sorted(PACKAGING.glob("*.service"))
UNITS = sorted([*SERVICES, *PACKAGING.glob("*.socket")])


def lines_of(unit: Path, section: str) -> list[tuple[str, str]]:
    """The lines of a section, those with the same name too."""
    found, at = [], ""
    for line in unit.read_text("utf-8").splitlines():
        if line.startswith("["):
            at = line.strip("[]")
        elif line and not line.startswith("#") and at == section:
            name, _, value = line.partition("=")
            found.append((name, value))
    return found


def values(unit: Path, section: str = "Service") -> dict[str, str]:
    return dict(lines_of(unit, section))


def by_name(path: Path) -> str:
    return path.name


def check_arguments(arguments: list[str]) -> None:
    """What a command is told is what it can be told."""
    name, *flags = arguments
    command = group.get_command(click.Context(group), name)
    assert command is not None
    known = {f"--{key}" for key in {*keys(command), "config"}}
    assert {flag for flag in flags if flag.startswith("-")} <= known


@pytest.mark.parametrize("unit", UNITS, ids=by_name)
def test_a_unit_can_be_read(unit: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(unit.read_text("utf-8"))
    assert parser.sections() == ["Unit", unit.suffix.removeprefix(".").capitalize(), "Install"]


@pytest.mark.parametrize("unit", SERVICES, ids=by_name)
def test_a_service_is_what_the_command_is(unit: Path) -> None:
    said = values(unit)
    program, *arguments = said["ExecStart"].split()
    assert program == "/usr/bin/tieline"
    assert arguments[0] == unit.stem.removeprefix("tieline-")
    assert arguments[1:] == ["--config", f"/etc/tieline/{arguments[0]}.toml"]
    # A version that does not know the second heeds the first.
    kinds = [value for name, value in lines_of(unit, "Service") if name == "Type"]
    assert kinds == ["notify", "notify-reload"]
    assert "ExecReload" not in said
    assert "\n#ExecReload=/bin/kill -HUP $MAINPID\n" in unit.read_text("utf-8")
    good = {int(code) for code in said["SuccessExitStatus"].split()}
    assert good == {Exit.TERMINATED, Exit.INTERRUPTED}
    assert int(said["RestartPreventExitStatus"]) == Exit.USAGE
    assert int(said["TimeoutStopSec"]) > 10  # the default of --drain


@pytest.mark.parametrize("unit", SERVICES, ids=by_name)
def test_a_services_command_line_is_one(unit: Path) -> None:
    arguments = values(unit)["ExecStart"].split()[1:]
    if arguments[0] not in COMMANDS:
        pytest.skip("there is no such command")
    check_arguments(arguments)


def test_the_services_are_hardened_alike() -> None:
    own = {"ExecStart", "StandardOutput", "RuntimeDirectory", "LogsDirectory"}
    alike = [
        [line for line in lines_of(unit, "Service") if line[0] not in own] for unit in SERVICES
    ]
    assert len(alike) == 2
    assert alike[0] == alike[1]
    # One that stops would take the other's folder away.
    assert len({values(unit)["RuntimeDirectory"] for unit in SERVICES}) == 2


def test_every_line_is_explained() -> None:
    explained = re.findall(r"^\| `(\w+=[^`]*)` \|", README, re.M)
    lines = {line for unit in SERVICES for line in lines_of(unit, "Service")}
    lines = {line for line in lines if line[0] not in ("Type", "ExecStart")}
    wanted = {
        f"{name}=" if name.endswith("Directory") else f"{name}={value}" for name, value in lines
    }
    assert len(explained) == len(set(explained))
    assert set(explained) == wanted


def test_the_sockets_are_the_guards() -> None:
    said = values(PACKAGING / "tieline-guard.socket", "Socket")
    # `Accept=yes` would start a guard for each client.
    assert "Accept" not in said
    # IPv4 clients do not come through the IPv6 socket, so both families have one.
    assert said["BindIPv6Only"] == "ipv6-only"
    at = [
        value
        for name, value in lines_of(PACKAGING / "tieline-guard.socket", "Socket")
        if name == "ListenStream"
    ]
    assert at == ["0.0.0.0:5432", "[::]:5432"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    version = subprocess.run(
        ["systemd-analyze", "--version"], capture_output=True, text=True, check=True
    )
    number = int(version.stdout.split()[1])
    for unit in UNITS:
        text = unit.read_text("utf-8").replace("/usr/bin/tieline", sys.executable)
        if number < 253:
            text = text.replace("Type=notify-reload\n", "").replace("#ExecReload", "ExecReload")
        (tmp_path / unit.name).write_text(text, "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # It may complain about other units of the machine.
    said = [line for line in done.stderr.splitlines() if "tieline" in line]
    assert said == []
    assert done.returncode == 0, done.stderr


def test_what_the_readme_names_is_there() -> None:
    for name in re.findall(r"^\| `([\w.-]+)` \|", README, re.M):
        assert (PACKAGING / name).is_file()
    files = {path.name for path in PACKAGING.iterdir()} - {"README.md"}
    assert {name for name in files if f"`{name}`" not in README} == set()
    for path in re.findall(r"(?:packaging/)[\w.-]+|tieline\.example\.toml", README):
        assert (ROOT / path).exists(), path


# ---- The container


def instructions() -> list[tuple[str, str]]:
    """What the Containerfile says, line by line."""
    text = (PACKAGING / "Containerfile").read_text("utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [
        (name, " ".join(rest.split()))
        for name, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())
    ]


def said(name: str) -> list[str]:
    return [rest for kind, rest in instructions() if kind == name]


def test_the_image_is_built_from_what_there_is() -> None:
    copied = said("COPY")
    assert copied[-1] == "--from=build /opt/tieline /opt/tieline"
    sources = {name for line in copied[:-1] for name in line.split()[:-1]}
    assert [name for name in sources if not (ROOT / name).exists()] == []
    # What the build reads is there.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {project["readme"], *project["license-files"], "pyproject.toml", "hatch_build.py"}
    assert sources == wanted | {"src"}
    first, last = said("FROM")
    assert first == f"{last} AS build"
    oldest = project["requires-python"].removeprefix(">=")
    assert last.partition(":")[2] == f"{oldest}-slim"
    (install,) = [line for line in said("RUN") if "pip install" in line]
    assert "'.[all]'" in install
    assert "all" in project["optional-dependencies"]


def test_the_image_runs_without_rights_and_stops_in_good_order() -> None:
    names = [name for name, _ in instructions()]
    assert said("USER") == ["65532:65532"]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert said("STOPSIGNAL") == ["SIGTERM"]


def test_the_image_runs_what_the_command_is() -> None:
    (entry,), (default,) = said("ENTRYPOINT"), said("CMD")
    (health,) = said("HEALTHCHECK")
    assert json.loads(entry) == ["tieline"]
    arguments = json.loads(default)
    assert arguments[0] == "guard"
    assert arguments[1::2] == ["--config", "--control"]
    if "guard" in COMMANDS:
        check_arguments(arguments)
    control = Path(arguments[arguments.index("--control") + 1])
    (pattern,) = re.findall(r"for each in (\S+);", health)
    # A listener's name stands between the two (see `placed` of the command's settings).
    for name in ("", "-db"):
        assert Path(control.with_stem(control.stem + name)).match(pattern)


@pytest.mark.parametrize("answering", [[], ["guard.sock"], ["guard-db.sock", "guard-old.sock"]])
def test_the_image_is_healthy_while_a_listener_answers(
    answering: list[str], tmp_path: Path
) -> None:
    """With a name or without, and though one that was killed has left its socket behind."""
    (health,) = said("HEALTHCHECK")
    command = health.partition("CMD ")[2].replace("/run/tieline", str(tmp_path))
    ctl = tmp_path / "tieline"
    ctl.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ -s "$3" ]\n')
    ctl.chmod(0o755)
    (tmp_path / "guard-broken.sock").touch()
    for name in answering:
        (tmp_path / name).write_text("answers")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["/bin/sh", "-c", command], env={"PATH": path}, check=False)
    assert (done.returncode == 0) is bool(answering)
    for line in (tmp_path / "asked").read_text().splitlines():
        assert re.fullmatch(rf"ctl --control {tmp_path}/guard[-a-z]*\.sock info", line)
