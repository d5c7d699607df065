"""One source of defaults: flags, environment, file and the annotated example, against the rules."""

from __future__ import annotations

import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.command_process import Tieline
from tieline import Limits, SettingError
from tieline.cli import guard, serve
from tieline.cli.app import group
from tieline.cli.help_screen import option_row
from tieline.cli.limit_values import (
    default_of,
    format_limit,
    limit_name,
    metavar_of,
    parse_limit,
    written_name,
)
from tieline.cli.options import Setting, keys
from tieline.cli.settings_lines import lines_of_keys
from tieline.limits import RULES
from tieline.rules import Rule

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tieline.example.toml"


def given_by(arguments: list[str], **file: Any) -> dict[str, Any]:
    """What `serve` would be told by a command line and a file."""
    above = click.Context(group, info_name="tieline", default_map={"serve": file})
    return serve.command.make_context("serve", arguments, above).params


def limits_of(given: dict[str, Any]) -> Limits:
    return Limits(**{name: given[name] for name in RULES})


def another(name: str) -> Any:
    """A value of a limit that is not its default, and contradicts no default."""
    rule = RULES[name]
    default = getattr(Limits(), name)
    words: dict[str, Any] = {
        "choice": next((word for word in rule.choices if word != default), None),
        "networks": ("10.0.0.0/8", "2001:db8::/32"),
        "limits": ("per_client", "idle"),
        "text": "busy\ntry later \\ none",
        "share": 0.25,
        "bits": 16,
    }
    if rule.unit in words:
        return words[rule.unit]
    if default is None or default == 0:
        return 7 if rule.unit == "connections" else 7.5
    return default // 2 if isinstance(default, int) else default / 2


SETTINGS = {option.name: option for option in serve.command.params if isinstance(option, Setting)}


# ---- Flags


@pytest.mark.parametrize("name", RULES)
def test_a_limit_is_a_flag_after_its_rule(name: str) -> None:
    rule, setting = RULES[name], SETTINGS[name]
    assert setting.opts == ["--" + name.replace("_", "-")]
    assert setting.help == rule.help
    assert setting.metavar == metavar_of(rule)
    # The choices are on the screen, so that nobody has to guess.
    for choice in rule.choices if rule.unit == "choice" else ():
        assert choice in option_row(setting, everything=False)[0]


def test_without_anything_said_the_defaults_of_the_library_hold() -> None:
    assert limits_of(given_by(["--port", "1"])) == Limits()


@pytest.mark.parametrize("name", RULES)
def test_each_limit_can_be_given_as_a_flag_or_in_a_file(name: str) -> None:
    value = another(name)
    written = format_limit(name, value)
    flag = given_by([f"--{written_name(name)}={written}"])
    assert flag[name] == value
    assert given_by([], **{name: written})[name] == value
    # A flag beats the file.
    assert given_by([f"--{written_name(name)}={written}"], **{name: default_of(name)}) == flag


def test_lists_are_given_by_commas_by_repeating_and_by_lists() -> None:
    wanted = ("10.0.0.0/8", "::1", "192.168.0.0/16")
    commas = given_by(["--exempt-networks", "10.0.0.0/8,::1", "--exempt-networks=192.168.0.0/16"])
    assert commas["exempt_networks"] == wanted
    assert given_by([], exempt_networks=list(wanted))["exempt_networks"] == wanted
    assert given_by([], exempt_networks=" ".join(wanted))["exempt_networks"] == wanted
    emptied = given_by(["--exempt-networks", "none"], exempt_networks="10.0.0.0/8")
    assert emptied["exempt_networks"] == ()


# ---- The environment


def test_each_limit_is_a_variable(tieline: Tieline) -> None:
    values = {name: format_limit(name, another(name)) for name in RULES}
    # Each on its own would be a process of its own: contradictions do not matter to `show`.
    variables: dict[str, Any] = {
        f"TIELINE_SERVE_{name.upper()}": value for name, value in values.items()
    }
    running = tieline.run("config", "show", "--json", "serve", **variables)
    shown = {line["name"]: line for line in map(json.loads, running.out.splitlines())}
    for name, value in values.items():
        line = shown[written_name(name)]
        assert (line["source"], line["place"]) == ("environment", f"TIELINE_SERVE_{name.upper()}")
        # Of a list, the words.
        assert line["value"] == value or " ".join(line["value"]) == value


# ---- Writing and reading


def a_value(rule: Rule) -> st.SearchStrategy[Any]:
    least = 0 if rule.least is None else rule.least
    if rule.unit == "text":
        return st.text(st.characters(exclude_categories=["Cs"]))
    if rule.unit == "choice":
        return st.sampled_from(rule.choices)
    if rule.unit == "limits":
        return st.lists(st.sampled_from(rule.choices)).map(tuple)
    if rule.unit == "networks":
        return st.lists(st.ip_addresses().map(str)).map(tuple)
    if rule.unit in ("bytes", "connections", "clients", "bits"):
        most = rule.most or (32 if rule.unit == "bits" else 10**12)
        return st.integers(max(1, int(least)), int(most))
    most = rule.most or 1e9
    # To the microsecond; and rates such as one in three seconds.
    return st.integers(1, 10**6).map(lambda n: n / 10**6 * most) | st.integers(1, 999).map(
        lambda n: min(float(n), most)
    )


@pytest.mark.parametrize("name", RULES)
def test_every_default_is_read_back_exactly(name: str) -> None:
    default = getattr(Limits(), name)
    read = parse_limit(name, default_of(name))
    assert read == default
    assert (read is None) == (default is None)


@given(st.sampled_from(sorted(RULES)).flatmap(lambda n: st.tuples(st.just(n), a_value(RULES[n]))))
def test_every_limit_is_read_back(case: tuple[str, Any]) -> None:
    name, value = case
    rule = RULES[name]
    read = parse_limit(name, format_limit(name, value))
    if rule.unit == "text" and value.strip().lower() == "none":
        assert read is None  # the one text that cannot be given
    elif rule.unit == "seconds":
        assert math.isclose(read, value, rel_tol=1e-6, abs_tol=1e-6)
    else:
        assert read == value


@pytest.mark.parametrize(
    ("written", "name"),
    [("per-client", "per_client"), ("per_client", "per_client"), ("Idle", "idle")],
)
def test_names_are_written_either_way(written: str, name: str) -> None:
    assert limit_name(written) == name


def test_a_wrong_name_names_the_nearest_one() -> None:
    with pytest.raises(SettingError) as caught:
        limit_name("per-clients")
    assert caught.value.fields == {"name": "per-clients", "like": "per-client"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("idle", "0"), ("idle", "fast"), ("per_client", "0"), ("per_client", "1.5"),
        ("handshake", "none"), ("lifetime_jitter", "1.1"), ("total_full", "refuse"),
        ("exempt_networks", "10.0.0.0/40"), ("dry_run", "total"), ("client_ipv4_prefix", "33"),
        ("per_client_rate", "3/x"), ("min_send_rate", "3/m"), ("refusal", "\\xff"),
    ],
)  # fmt: skip
def test_no_values(name: str, text: str) -> None:
    with pytest.raises(SettingError):
        parse_limit(name, text)


# ---- The annotated example


def uncommented() -> dict[str, Any]:
    """The example with every setting in it switched on."""
    return tomllib.loads(re.sub(r"(?m)^# ?", "", EXAMPLE.read_text("utf-8")))


def test_the_example_is_a_settings_file_in_which_nothing_is_set() -> None:
    assert tomllib.loads(EXAMPLE.read_text("utf-8")) == {"serve": {}, "guard": {}}


def test_the_example_has_every_setting_and_no_other() -> None:
    content = uncommented()
    own = keys(serve.command)
    shared = keys(group)
    assert content["serve"].keys() == own - shared
    # What both have is explained once.
    assert content["guard"].keys() == keys(guard.command) - own | {"listen"}
    assert content.keys() - {"serve", "guard"} == shared


def test_the_example_says_exactly_the_defaults() -> None:
    content = uncommented()
    written = {
        key.replace("-", "_"): value for key, value in content["serve"].items() if value != ""
    }
    assert given_by([], **written) == given_by([])
    assert limits_of(given_by([], **written)) == Limits()
    above = click.Context(group, info_name="tieline", default_map={"guard": content["guard"]})
    empty = click.Context(group, info_name="tieline")
    told, untold = (guard.command.make_context("guard", [], each) for each in (above, empty))
    assert {name: value or None for name, value in told.params.items()} == {
        name: value or None for name, value in untold.params.items()
    }


def test_the_example_explains_every_setting() -> None:
    """Each group of settings has something said above it."""
    said = ""
    for line in EXAMPLE.read_text("utf-8").splitlines():
        if line.startswith("##"):
            said = line
        elif not line.startswith("#"):
            said = ""
        else:
            assert said, line


def test_the_example_is_checked_and_shown_by_the_command(tieline: Tieline) -> None:
    every = tieline.folder / "every.toml"
    every.write_text(re.sub(r"(?m)^# ?", "", EXAMPLE.read_text("utf-8")), "utf-8")
    assert tieline.run("config", "check", str(EXAMPLE), str(every)).code == 0
    running = tieline.run("config", "show", "--json", "--config", "every.toml", "serve")
    from_file = [line for line in map(json.loads, running.out.splitlines()) if line["place"]]
    lines = every.read_text("utf-8").splitlines()
    assert len(from_file) > len(RULES)
    for line in from_file:
        at = int(line["place"].removeprefix("every.toml:"))
        assert lines[at - 1].startswith(line["name"] + " =")


# ---- On which line

_KEYS = st.text("abc-", min_size=1, max_size=3)
_VALUES = st.sampled_from([
    "1", "'x'", "true", '"""a\nb = 1\n[c]\n"""', "[\n  1, # b = 2\n  2,\n]", "'''\n'''", "{}",
    "{ x = 1, y = [1] }", "1979-05-27",
])  # fmt: skip
_FILLER = st.sampled_from(["", "# a = 1", "  ", "# [b]", "\t# ="])


@given(
    st.lists(
        st.tuples(
            _KEYS,
            st.lists(st.tuples(_FILLER, _KEYS, _VALUES), unique_by=lambda entry: entry[1]),
        ),
        unique_by=lambda table: table[0],
    )
)
def test_the_line_of_every_key_is_found(tables: list[Any]) -> None:
    lines: list[str] = []
    wanted: dict[tuple[str, ...], int] = {}
    for table, entries in tables:
        lines.append(f"[ {table} ] # here")
        wanted[(table,)] = len(lines)
        for filler, key, value in entries:
            lines.append(filler)
            lines += f"{key} = {value}".split("\n")
            wanted[(table, key)] = len(lines) - value.count("\n")
    text = "\n".join(lines)
    tomllib.loads(text)
    found = lines_of_keys(text)
    assert {path: line for path, line in found.items() if path in wanted} == wanted


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("serve.idle = 1", ("serve", "idle"), 1),
        ("\n[serve.deep]\nx = 1", ("serve", "deep", "x"), 3),
        ("\"a b\" = 1\n'c' = 2", ("c",), 2),
        ("serve = { idle = 1 }", ("serve", "idle"), 1),
        ("a = 1\r\nb = 2\r\n", ("b",), 2),
        ("[[x]]\ny = 1\n[[x]]\nz = 2", ("x", "z"), 4),
    ],
)
def test_keys_however_they_are_written(text: str, path: tuple[str, ...], line: int) -> None:
    assert lines_of_keys(text)[path] == line


# ---- The documentation


def test_the_manual_has_every_verb_and_every_command() -> None:
    from tieline.cli import ctl

    manual = (ROOT / "docs/command-line.md").read_text("utf-8")
    named = set(re.findall(r"(?m)^\| `([a-z]+)[^|]*\|", manual))
    assert set(ctl.command.found) | set(group.found) <= named
    for setting in ("control", "metrics", "log", "log-json", "drain", "drain-spread", "refusal"):
        assert f"--{setting}" in manual
