"""Where one message ends and the next begins. No sockets, no clock: bytes in, messages out.

A framing (`Line()`, `LengthPrefix(2)`...) is an immutable description; `framing.codec()` makes
the state of one connection::

    codec = Line().codec(maximum=1024)
    codec.feed(b"one\\ntw")     # [b"one"]
    codec.feed(b"o\\n")         # [b"two"]
    codec.pack(b"three")        # b"three\\n"
"""

from .base import Codec, Framing
from .delimited import Delimiter, Line
from .sized import Fixed, LengthPrefix
from .unframed import Gap, Raw

__all__ = ["Codec", "Delimiter", "Fixed", "Framing", "Gap", "LengthPrefix", "Line", "Raw"]
