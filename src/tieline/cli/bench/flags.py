"""The settings of `tieline bench`: what is done, what is said, how, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ...bench import Ending, Mode
from ...bench.thresholds import parse_threshold
from ...errors import SettingError
from .. import units
from ..dialling import dialling_settings
from ..options import Setting
from ..parameters import COUNT, DURATION, PAUSE, Written, text_settings
from ..translation import N_

__all__ = ["LOAD", "MESSAGE", "RESULT", "WAY"]

_FILE = click.Path(path_type=Path)


def _above_zero(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def read_above_zero(text: str) -> Any:
        value = read(text)
        if not value > 0:
            raise SettingError("{text!r} is not above zero", text=text)
        return value

    return read_above_zero


_NUMBER = Written("N", _above_zero(units.parse_count))
_RATE = Written("RATE", _above_zero(units.parse_rate))


#: How many connections, how they are used, and for how long.
LOAD = (
    Setting(
        ["--mode"], type=click.Choice([each.value for each in Mode]), metavar="MODE",
        default="long", brief=True, help=N_("long, short, mixed, hold or storm"),
    ),
    Setting(
        ["--compare"], is_flag=True, brief=True,
        help=N_("short, then long connections: what one costs"),
    ),
    Setting(
        ["-c", "--connections"], type=_NUMBER, metavar="N", default="10", brief=True,
        help=N_("how many there are at once"),
    ),
    Setting(
        ["--pipeline"], type=_NUMBER, metavar="N", default="1",
        help=N_("messages that each may have unanswered"),
    ),
    Setting(
        ["--rate"], type=_RATE, metavar="RATE", brief=True,
        help=N_("so many exchanges a second, whatever the server does"),
    ),
    Setting(
        ["--duration"], type=DURATION, metavar="TIME", brief=True,
        help=N_("how long to measure (10s, or until --count)"),
    ),
    Setting(
        ["--count"], type=_NUMBER, metavar="N", brief=True,
        help=N_("measure so many exchanges"),
    ),
    Setting(
        ["--warmup"], type=PAUSE, metavar="TIME", default="0s", brief=True,
        help=N_("run for so long before anything is measured"),
    ),
    Setting(
        ["--ramp"], type=PAUSE, metavar="TIME", default="0s",
        help=N_("begin over so long: the connections, or the rate"),
    ),
    Setting(
        ["--exchanges"], type=_NUMBER, metavar="N",
        help=N_("long: open another connection after so many"),
    ),
    Setting(
        ["--think"], type=PAUSE, metavar="TIME", default="0s",
        help=N_("long: wait between an answer and the next message"),
    ),
    Setting(
        ["--short-share"], type=Written("SHARE", units.parse_share), metavar="SHARE",
        default="50%", help=N_("mixed: how many of the connections are short"),
    ),
    Setting(
        ["--heartbeat"], type=DURATION, metavar="TIME",
        help=N_("hold: send a message over each, so often"),
    ),
    Setting(
        ["--processes"], type=_NUMBER, metavar="N", default="1", brief=True,
        help=N_("share the load among so many"),
    ),
)  # fmt: skip

#: What is said, and what answer is right.
MESSAGE = (
    Setting(
        ["--template"], is_flag=True, brief=True,
        help=N_("fill in {n}, {uuid}, {random:1-100}... in it"),
    ),
    Setting(
        ["--seed"], type=COUNT, metavar="N", help=N_("the same random fields each time"),
    ),
    Setting(
        ["--file"], type=_FILE, metavar="FILE",
        help=N_("send what a file holds, byte by byte (-: stdin)"),
    ),
    Setting(
        ["--lines"], type=_FILE, metavar="FILE",
        help=N_("send the lines of a file, one after the other (-: stdin)"),
    ),
    Setting(
        ["--hex"], is_flag=True,
        help=N_("the message is hexadecimal; lines and --expect too"),
    ),
    Setting(
        ["--expect"], metavar="TEXT", brief=True,
        help=N_("count every other answer as a failure"),
    ),
    Setting(
        ["--expect-regex"], metavar="REGEX",
        help=N_("count answers in which this is not found as failures"),
    ),
    Setting(
        ["--expect-echo"], is_flag=True,
        help=N_("count answers that are not what was sent as failures"),
    ),
)  # fmt: skip

#: How connections are made, carry messages, and end.
WAY = (
    *(each for each in text_settings() if each.name in ("framing", "max_message")),
    Setting(
        ["--encoding"], metavar="NAME", default="none",
        help=N_("messages are text in utf-8, gbk...; none: bytes, text as UTF-8"),
    ),
    Setting(
        ["--timeout"], type=DURATION, default="10s", help=N_("how long an answer may take")
    ),
    Setting(
        ["--connect-timeout"], type=DURATION, default="5s",
        help=N_("how long connecting may take, TLS included"),
    ),
    Setting(
        ["--close"], type=click.Choice([each.value for each in Ending]), metavar="HOW",
        default="fin", help=N_("who ends connections: fin: we do; reset: with an RST; server"),
    ),
    Setting(
        ["--source"], multiple=True, metavar="ADDRESS",
        help=N_("call from these in turn: 127.0.0.2-127.0.0.9, 10.0.0.0/29"),
    ),
    *(each for each in dialling_settings() if each.name != "timeout"),
)  # fmt: skip

#: What becomes of what was measured.
RESULT = (
    Setting(["--json"], is_flag=True, brief=True, help=N_("write JSON, for programs")),
    Setting(
        ["--html"], type=_FILE, metavar="FILE", brief=True,
        help=N_("write a page with charts, too"),
    ),
    Setting(
        ["--save"], type=_FILE, metavar="FILE", brief=True,
        help=N_("keep the result, for tieline bench diff"),
    ),
    Setting(
        ["--fail-if"], type=Written("RULE", parse_threshold), metavar="RULE", multiple=True,
        brief=True, help=N_("exit code 99 if so: 'p99>5ms', 'failures>1%'"),
    ),
)  # fmt: skip
