#!/usr/bin/env python3
"""Draws house.svg: the floors of tieline, every box a file or folder of src/tieline.

python docs/pictures/house.py            # write house.svg beside this file
python docs/pictures/house.py --check    # fail if it is not what would be written
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

__all__ = ["FLOORS", "PICTURE", "draw"]

PICTURE = Path(__file__).with_suffix(".svg")

#: From the roof to the ground: the floor's name, then each box: its file and what is in it.
#: A file imports from its own floor or from those below it, never from above.
FLOORS: list[tuple[str, list[tuple[str, str]]]] = [
    ("the command", [("cli/", "serve · guard · connect · send · bench · trace · ctl · doctor")]),
    (
        "who watches",
        [
            ("control/", "see, change, undo"),
            ("event_log/", "what happened"),
            ("metrics.py", "how much of it"),
        ],
    ),
    (
        "who measures",
        [
            ("bench/", "load, and its times"),
            ("trace/", "packet by packet"),
            ("doctor/", "how many fit here"),
        ],
    ),
    (
        "what you hold",
        [
            ("run.py", "a whole program"),
            ("server.py", "a handler for each"),
            ("client.py", "ask, connect"),
            ("guard/", "relay to upstreams"),
            ("blocking/", "the same, no asyncio"),
        ],
    ),
    (
        "a server's inside",
        [
            ("listening.py", "start, drain, stop"),
            ("operating.py", "live limits, bans"),
            ("hosting.py", "who is in"),
            ("acceptor.py", "let in, or refuse"),
        ],
    ),
    (
        "messages",
        [
            ("responder.py", "one call a message"),
            ("conversation.py", "one coroutine a peer"),
            ("connection.py", "inbox, send, cork"),
        ],
    ),
    (
        "one socket each",
        [
            ("listener.py", "accept"),
            ("stream.py", "recv, send"),
            ("ending.py", "close, reset"),
            ("expiring.py", "clocks that strike"),
            ("tls.py", "the same through TLS"),
        ],
    ),
    (
        "the engine",
        [("reactor.py", "one epoll turn"), ("waiter.py", "what a task waits on, reused")],
    ),
    (
        "decisions",
        [
            ("deadlines.py", "whom to ask, when"),
            ("clocks.py", "what is due"),
            ("admission/", "who may come in"),
            ("eviction.py", "who makes room"),
            ("states.py", "which moves exist"),
        ],
    ),
    (
        "the ground",
        [
            ("framing/", "cut messages"),
            ("charset.py", "bytes to text"),
            ("address.py", "host:port"),
            ("limits.py", "every default"),
            ("errors.py", "what went wrong"),
            ("reasons.py", "why it ended"),
        ],
    ),
]

_WIDTH, _MARGIN, _NAMES = 920, 20, 136
_FLOOR, _BETWEEN, _TOP = 52, 19, 14
_GAP = 10

_STYLE = """
  .page { fill: #ffffff } .floor { fill: #f3f5f8 } .box { fill: #ffffff; stroke: #9aa7b8 }
  .name { fill: #5a6675; font: italic 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif }
  .file { fill: #14212f; font: 600 13px ui-monospace, Menlo, Consolas, monospace }
  .what { fill: #4a5665; font: 11px system-ui, "Segoe UI", Helvetica, Arial, sans-serif }
  .arrow { stroke: #7b8796; stroke-width: 1.6; fill: none } .head { fill: #7b8796 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .floor { fill: #171d26 } .box { fill: #0f151d; stroke: #4b596b }
    .name { fill: #a3afbd } .file { fill: #e8eef5 } .what { fill: #b1bcc9 }
    .arrow { stroke: #8b97a6 } .head { fill: #8b97a6 }
  }
"""


def draw() -> str:
    """The whole picture."""
    height = _TOP * 2 + len(FLOORS) * _FLOOR + (len(FLOORS) - 1) * _BETWEEN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" '
        'aria-label="The floors of tieline, from the command down to the ground">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}" rx="8"/>',
    ]
    for number, (name, boxes) in enumerate(FLOORS):
        top = _TOP + number * (_FLOOR + _BETWEEN)
        lines += _floor(name, boxes, top)
        if number + 1 < len(FLOORS):
            lines += _arrow(top + _FLOOR)
    return "\n".join([*lines, "</svg>", ""])


def _floor(name: str, boxes: list[tuple[str, str]], top: int) -> list[str]:
    lines = [
        f'<rect class="floor" x="{_MARGIN}" y="{top}" width="{_WIDTH - 2 * _MARGIN}" '
        f'height="{_FLOOR}" rx="6"/>',
        f'<text class="name" x="{_MARGIN + 12}" y="{top + _FLOOR / 2 + 4:g}">{escape(name)}</text>',
    ]
    left = _MARGIN + _NAMES
    width = (_WIDTH - _MARGIN - _GAP - left - _GAP * (len(boxes) - 1)) / len(boxes)
    for place, (file, what) in enumerate(boxes):
        x = left + place * (width + _GAP)
        middle = f"{x + width / 2:.1f}"
        lines += [
            f'<rect class="box" x="{x:.1f}" y="{top + 5}" width="{width:.1f}" '
            f'height="{_FLOOR - 10}" rx="4"/>',
            f'<text class="file" x="{middle}" y="{top + 23}" text-anchor="middle">'
            f"{escape(file)}</text>",
            f'<text class="what" x="{middle}" y="{top + 39}" text-anchor="middle">'
            f"{escape(what)}</text>",
        ]
    return lines


def _arrow(top: int) -> list[str]:
    """From one floor to the next one below it: what imports points at what is imported."""
    x = _MARGIN + _NAMES + (_WIDTH - 2 * _MARGIN - _NAMES) / 2
    tip = top + _BETWEEN - 2
    return [
        f'<path class="arrow" d="M{x:g} {top + 2}V{tip - 7}"/>',
        f'<path class="head" d="M{x - 5:g} {tip - 8}h10l-5 8z"/>',
    ]


def main(arguments: list[str]) -> int:
    """Write the picture, or check it."""
    if arguments == ["--check"]:
        if PICTURE.read_text("utf-8") == draw():
            return 0
        print(f"{PICTURE.name} is out of date: run {Path(__file__).name}", file=sys.stderr)
        return 1
    PICTURE.write_text(draw(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
