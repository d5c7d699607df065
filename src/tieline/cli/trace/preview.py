"""The data of a packet, as somebody can read it: text in the charset that its sender speaks."""

from __future__ import annotations

from ...charset import Charset
from ...errors import PeerError
from ...trace.model import Side, Step
from ..decoding import Text, text_of
from ..visible import hexadecimal, visible
from .wording import sender_of

__all__ = ["Preview"]


class Preview:
    """Makes data readable and safe, each side's in its own charset.

    Args:
        charset: what both sides speak; `None`: show bytes.
        hex: show bytes whatever the charset.
    """

    def __init__(self, charset: Charset | None, *, hex: bool = False) -> None:
        self._texts: dict[Side, Text] = {}
        if charset is not None and not hex:
            self._texts = {side: text_of(charset, "escape") for side in Side}

    def __call__(self, step: Step) -> str:
        """The step's data, in quotation marks if it is text; empty if nothing of it is known."""
        if not step.payload:
            return ""
        more = "..." if step.size > len(step.payload) else ""
        text = self.text(step)
        if text is None:
            return hexadecimal(step.payload) + more
        return f'"{visible(text)}{more}"'

    def text(self, step: Step) -> str | None:
        """The step's data as text, with U+DC00 + N for a byte N that is none; `None` where it is
        to be shown as bytes."""
        if not self._texts:
            return None
        try:
            return self._texts[sender_of(step)].decode(step.payload)
        except PeerError:
            return None
