"""What the commands show: messages and connections on stdout, everything else on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TextIO

from .outlet import Outlet
from .payload import Payload
from .translation import gettext as _
from .translation import hint_of, ngettext, sentence, with_hint
from .units import format_duration
from .visible import hexadecimal, visible

__all__ = ["Direction", "Form", "Log", "wants_color"]

Form = Literal["text", "hex", "json", "raw"]
Direction = Literal["in", "out"]

#: The version of the JSON Lines: keys may be added to it, never removed or changed.
_JSON_VERSION = 1

_DIM, _RED, _GREEN, _CYAN = "2", "31", "32", "36"
_ARROWS = {"in": ("←", "<-", _GREEN), "out": ("→", "->", _CYAN)}


def wants_color(choice: str, stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to use colour: the flag beats all, and NO_COLOR beats FORCE_COLOR."""
    if choice != "auto":
        return choice == "always"
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environment.get("TERM") != "dumb"


class Log:
    """Shows what happens, in one of four forms.

    Args:
        form: `text` and `hex` for people, `json` for programs (JSON Lines), `raw` for pipes
            (the bytes that came in, and nothing else).
        color: `auto`, `always` or `never`.
        quiet: show messages only, and errors.
        many: there may be several connections, so each line says whose it is.
    """

    def __init__(
        self, form: Form = "text", *, color: str = "auto", quiet: bool = False, many: bool = True
    ) -> None:
        self.form: Form = form
        self._color = color
        self._quiet = quiet
        self._many = many
        self._broken = False
        self._out_outlet: Outlet | None = None
        self._error_outlet: Outlet | None = None
        #: Called once when whoever read stdout has gone: nobody watches any more.
        self.on_broken_pipe: Callable[[], object] = lambda: None

    # -------------------------------------------------------------- connections and messages

    def opened(self, id: int, peer: object, local: object) -> None:
        """A connection is there."""
        if self.form == "json":
            self._event("open", id=id, peer=str(peer), local=str(local))
        elif self.form != "raw" and not self._quiet:
            text = _("opened") if self._many else _("connected to {peer} from {local}")
            text = text.format(peer=visible(str(peer)), local=visible(str(local)))
            self._line(id, peer, self._paint(text, _DIM))

    def closed(self, id: int, peer: object, reason: str, sent: int, received: int) -> None:
        """A connection has ended."""
        if self.form == "json":
            self._event(
                "close", id=id, peer=str(peer), reason=str(reason),
                bytes_received=received, bytes_sent=sent,
            )  # fmt: skip
        elif self.form != "raw" and not self._quiet:
            text = _("closed: {reason} ({received} bytes in, {sent} bytes out)")
            text = text.format(reason=reason, received=received, sent=sent)
            self._line(id, peer, self._paint(text, _DIM))

    def message(self, id: int, peer: object, direction: Direction, payload: Payload) -> None:
        """A message has come or gone."""
        if self.form == "raw":
            if direction == "in":
                self._bytes(payload.data)
        elif self.form == "json":
            self._event(
                "message", id=id, peer=str(peer), direction=direction,
                text=payload.text, hex=payload.data.hex(),
            )  # fmt: skip
        else:
            text = hexadecimal(payload.data) if self.form == "hex" else payload.readable
            arrow, plain, color = _ARROWS[direction]
            self._line(id, peer, f"{self._paint(self._fitting(arrow, plain), color)} {text}")

    def relayed(self, id: int, peer: object, listener: str, upstream: str, **more: Any) -> None:
        """A guard's session has its upstream. `more`: what else programs are told."""
        if self.form == "json":
            self._event(
                "relayed", id=id, peer=str(peer), listener=listener or None, upstream=upstream,
                **more,
            )  # fmt: skip
        elif not self._quiet:
            text = " ".join(filter(None, (listener, self.arrow, upstream)))
            self._line(id, peer, self._paint(text, _DIM))

    def session_closed(
        self, id: int, peer: object, listener: str, upstream: str | None, reason: str,
        sent: int, received: int, seconds: float,
    ) -> None:  # fmt: skip
        """A guard's session has ended. Bytes are the client's: sent to it, received from it."""
        if self.form == "json":
            self._event(
                "close", id=id, peer=str(peer), reason=reason, bytes_received=received,
                bytes_sent=sent, listener=listener or None, upstream=upstream,
                duration=round(seconds, 3),
            )  # fmt: skip
        elif not self._quiet:
            text = _("closed: {reason} ({received} bytes in, {sent} bytes out, {time})")
            time = format_duration(round(seconds, 3) if seconds < 10 else round(seconds))
            text = text.format(reason=reason, received=received, sent=sent, time=time)
            self._line(id, peer, self._paint(f"{listener} {text}".lstrip(), _DIM))

    def reply(self, payload: Payload) -> None:
        """A message that was asked for: nothing but it, one line."""
        text = hexadecimal(payload.data) if self.form == "hex" else payload.readable
        self._out(text + "\n")

    def event(self, name: str, **fields: Any) -> None:
        """Something else for programs: a line in JSON, nothing in the other forms."""
        if self.form == "json":
            self._event(name, **fields)

    def json_line(self, **fields: Any) -> None:
        """An answer for programs, in whatever form: one object a line."""
        self._out(json.dumps({"v": _JSON_VERSION, **fields}) + "\n")

    # -------------------------------------------------------------- for people

    def print(self, text: str) -> None:
        """A line of what was asked for, on stdout."""
        self._out(text + "\n")

    @property
    def shows_connections(self) -> bool:
        """Whether anybody is shown that they come and go."""
        return self.form == "json" or not self._quiet

    @property
    def arrow(self) -> str:
        """From what was to what is, as the terminal can show it."""
        return self._fitting("→", "->")

    def dim(self, text: str) -> str:
        """The text, for stdout, as what matters less."""
        return self._paint(text, _DIM)

    @property
    def paints(self) -> bool:
        """Whether stdout is to be coloured."""
        return wants_color(self._color, sys.stdout, os.environ)

    def notice(self, text: str) -> None:
        """Something worth knowing, on stderr; not when quiet."""
        if not self._quiet:
            self._error_line(text)

    def error(self, error: BaseException) -> None:
        """An error as a sentence, with its hint, on stderr."""
        self.complain(sentence(error), hint_of(error))

    def complain(self, text: str, hint: str = "") -> None:
        """A sentence about what went wrong, on stderr."""
        text = with_hint(text, hint)
        paint = wants_color(self._color, sys.stderr, os.environ)
        self._error_line(f"\x1b[{_RED}m{text}\x1b[0m" if paint else text)

    # -------------------------------------------------------------- how

    def _line(self, id: int, peer: object, text: str) -> None:
        time = datetime.datetime.now().strftime("%H:%M:%S.%f")[:-3]
        head = f"{time}  #{id} {visible(str(peer))}" if self._many else time
        self._out(f"{self._paint(head, _DIM)}  {text}\n")

    def _event(self, name: str, **fields: Any) -> None:
        self._out(self._event_line(name, **fields))

    def _event_line(self, name: str, **fields: Any) -> str:
        now = datetime.datetime.now(datetime.UTC)
        time = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        # ASCII only: whatever the stream's encoding, the line is the same.
        return json.dumps({"v": _JSON_VERSION, "time": time, "event": name, **fields}) + "\n"

    def _paint(self, text: str, color: str) -> str:
        if self.paints:
            return f"\x1b[{color}m{text}\x1b[0m"
        return text

    def _fitting(self, text: str, plain: str) -> str:
        """The text, or its plain form where the terminal's charset cannot show it."""
        try:
            text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
        except UnicodeEncodeError:
            return plain
        return text

    # The streams are looked up each time: an editor puts others in their place while it is open.

    @contextlib.contextmanager
    def without_waiting(self) -> Iterator[None]:
        """For a server: while it lasts, nothing waits for whoever reads what is shown. What comes
        in as it is (`raw`) is the exception, since none of it may be missing."""
        loop = asyncio.get_running_loop()
        if self.form != "raw" and Outlet.suits(sys.stdout):
            self._out_outlet = Outlet(loop, sys.stdout, self._unread, self._break)
        if Outlet.suits(sys.stderr):
            self._error_outlet = Outlet(loop, sys.stderr, self._unread_errors, lambda: None)
        try:
            yield
        finally:
            outlets = (self._out_outlet, self._error_outlet)
            self._out_outlet = self._error_outlet = None
            for outlet in outlets:
                if outlet is not None:
                    outlet.close()

    def _unread(self, count: int) -> str:
        if self.form == "json":
            return self._event_line("unread", count=count)
        return self._unread_errors(count)

    def _unread_errors(self, count: int) -> str:
        text = ngettext(
            "{count} line is missing here: nobody was reading",
            "{count} lines are missing here: nobody was reading",
            count,
        )
        return text.format(count=f"{count:,}") + "\n"

    def _out(self, text: str) -> None:
        if self._out_outlet is not None:
            self._out_outlet.write(text)
        elif not self._broken:
            try:
                sys.stdout.write(text)
                sys.stdout.flush()
            except BrokenPipeError:
                self._break()

    def _bytes(self, data: bytes) -> None:
        if not self._broken:
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                self._break()

    def _break(self) -> None:
        self._broken = True
        silence_stdout()
        self.on_broken_pipe()

    def _error_line(self, text: str) -> None:
        if self._error_outlet is not None:
            self._error_outlet.write(text + "\n")
            return
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def silence_stdout() -> None:
    """Nobody reads stdout any more: let what Python still flushes at its end go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
