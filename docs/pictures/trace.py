#!/usr/bin/env python3
"""Draws trace*.svg: a real connection to the first server that anybody writes, packet by packet.

python docs/pictures/trace.py            # make the connection, write the pictures beside this file

It needs the right to capture (root, or CAP_NET_RAW). Times differ from run to run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tieline.charset import Charset
from tieline.cli.trace.preview import Preview
from tieline.cli.trace.svg import draw
from tieline.cli.translation import use_language
from tieline.trace import Call, Source, Trace

__all__ = ["PICTURES", "make_trace"]

HERE = Path(__file__).parent
SERVER = HERE.parents[1] / "tests" / "seed_scripts" / "server.py"

#: The file, its language, and whether each step says what it means.
PICTURES = (
    ("trace.svg", "en", False),
    ("trace-explained.svg", "en", True),
    ("trace-explained.zh-CN.svg", "zh_CN", True),
)


@contextmanager
def _server(port: int) -> Iterator[int]:
    """The server; gives its port, or 0 if that port is taken."""
    with subprocess.Popen(
        [sys.executable, str(SERVER), str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().rpartition(" ")[2] or 0)
        finally:
            process.kill()


def make_trace() -> Trace:
    """Say hello to the server, and see what passes."""
    # Its own port may be in TIME-WAIT from the last time: then any.
    for wanted in (7788, 0):
        with _server(wanted) as port:
            if port:
                return Call(f"127.0.0.1:{port}", "你好".encode("gbk")).run()
    raise SystemExit("the server does not start")


def main() -> int:
    """Write the pictures."""
    trace = make_trace()
    if trace.source is not Source.CAPTURE:
        print(f"no capture: {trace.why_not_captured}", file=sys.stderr)
        return 1
    for name, language, explain in PICTURES:
        use_language(language)
        picture = draw(trace, Preview(Charset("gbk")), explain=explain)
        (HERE / name).write_text(picture, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
