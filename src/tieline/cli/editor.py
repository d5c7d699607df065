"""The line editor of `tieline connect`: history, escapes or hexadecimal, and commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from ..errors import TielineError, UsageError
from ..framing import Raw
from ..rules import nearest
from .above_prompt import above_prompt
from .session import Left, Session
from .translation import N_
from .translation import gettext as _
from .units import format_duration
from .written import Parts, parse_escapes, parse_hex

__all__ = ["Editor", "history_file"]


def history_file(environment: Mapping[str, str]) -> Path:
    """Where the history of lines is kept (XDG)."""
    state = environment.get("XDG_STATE_HOME") or ""
    # The standard: a relative path there is to be ignored.
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "tieline" / "history"


class Editor:
    """Reads lines from a person and obeys them.

    Args:
        prompt: what stands before the line; in hexadecimal mode, `hex> ` does.
    """

    def __init__(self, prompt: str = "> ") -> None:
        self._prompt = prompt
        self._lines: PromptSession[str] = PromptSession(history=_history(), erase_when_done=True)
        self._session: Session | None = None

    async def __call__(self, session: Session) -> Left:
        """Obey lines until one says to leave."""
        self._session = session
        session.log.notice(_("type a message and press Enter; /help shows the commands"))
        again = ""
        with above_prompt(self._lines.app):
            while True:
                try:
                    line = await self._lines.prompt_async(self._shown_prompt, default=again)
                except EOFError:
                    return Left.DONE
                except KeyboardInterrupt:
                    session.log.complain(_("interrupted"))
                    return Left.INTERRUPTED
                again = ""
                try:
                    left = await self._obey(line)
                except TielineError as error:
                    session.log.error(error)
                    # The line comes back, to be put right.
                    again = line
                else:
                    if left is not None:
                        return left

    def _shown_prompt(self) -> str:
        return "hex> " if self._hexadecimal else self._prompt

    @property
    def _hexadecimal(self) -> bool:
        return self._open.log.form == "hex"

    @property
    def _open(self) -> Session:
        assert self._session is not None
        return self._session

    async def _obey(self, line: str) -> Left | None:
        if line.startswith("/") and not line.startswith("//"):
            return self._command(line[1:].strip())
        parts = self._read(line[1:] if line.startswith("//") else line)
        if parts or not isinstance(self._open.dialling.framing.framing, Raw):
            await self._open.send(*parts)
        return None

    def _read(self, line: str) -> Parts:
        if not self._hexadecimal:
            return parse_escapes(line)
        data = parse_hex(line)
        return (data,) if data else ()

    # ---- Commands

    def _command(self, name: str) -> Left | None:
        if name not in _COMMANDS:
            like = nearest(name, _COMMANDS)
            raise UsageError(
                "there is no command {name!r}; // sends a line that begins with /",
                hint="did you mean {like!r}?" if like else "", like=like, name=name,
            )  # fmt: skip
        return _COMMANDS[name][0](self)

    def _quit(self) -> Left:
        return Left.DONE

    def _half_close(self) -> None:
        self._open.connection.half_close()
        self._open.log.notice(_("our stream has ended; what the peer still sends is shown"))

    def _show_hex(self) -> None:
        self._open.log.form = "hex"

    def _show_text(self) -> None:
        self._open.log.form = "text"

    def _info(self) -> None:
        connection = self._open.connection
        lines = [
            _("peer {peer}, ourselves {local}, state {state}").format(
                peer=connection.peer, local=connection.local, state=connection.state.value
            ),
            _("{received} bytes in, {sent} bytes out, open for {age}, encoding {encoding}").format(
                received=connection.bytes_received, sent=connection.bytes_sent,
                age=format_duration(round(connection.age, 1)), encoding=connection.encoding,
            ),
        ]  # fmt: skip
        if not connection.peer.is_unix:
            info = connection.tcp_info()
            text = _("round trip {time}, {count} segments sent again")
            time = format_duration(round(info.round_trip, 6))
            lines.append(text.format(time=time, count=info.retransmitted))
        for line in lines:
            self._open.log.notice(line)

    def _help(self) -> None:
        for name, (_obey, text) in _COMMANDS.items():
            self._open.log.notice(f"  /{name:7} {_(text)}")
        self._open.log.notice("  " + _(r"a line is text with \n \r \t \0 \\ \xNN \uNNNN;"))
        self._open.log.notice("  " + _("in hex mode bytes: 01 03, 0x01,0x03, 0103"))


_COMMANDS: dict[str, tuple[Callable[[Editor], Left | None], str]] = {
    "quit": (Editor._quit, N_("close the connection and leave (Ctrl-D too)")),
    "close": (Editor._half_close, N_("end our stream, and go on receiving (half-close)")),
    "hex": (Editor._show_hex, N_("show and read bytes")),
    "text": (Editor._show_text, N_("show and read text")),
    "info": (Editor._info, N_("show what is known of the connection")),
    "help": (Editor._help, N_("show this")),
}


def _history() -> History:
    path = history_file(os.environ)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        # A home that cannot be written to is no reason not to talk: the history then ends with
        # the program.
        return InMemoryHistory()
    return FileHistory(str(path))
