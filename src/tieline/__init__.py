"""tieline: TCP connections, held well.

Servers and clients that carry messages over TCP, TLS and Unix sockets, with framing, charsets,
limits and close reasons; pure Python, on asyncio or uvloop, without dependencies.
"""

import logging

from . import blocking, errors, events
from ._version import __version__
from .address import Address, parse_address
from .admission import Admission, Client, LocalAdmission
from .charset import Charset
from .client import ask, connect
from .connection import Connection
from .counters import Counters
from .errors import *  # noqa: F403 - the tree of errors is all public
from .framing import Delimiter, Fixed, Framing, Gap, LengthPrefix, Line, Raw
from .limits import Limits
from .reasons import CloseReason
from .run import run
from .server import Server, serve
from .states import State
from .tcp_info import TcpInfo

__all__ = [
    "Address",
    "Admission",
    "Charset",
    "Client",
    "CloseReason",
    "Connection",
    "Counters",
    "Delimiter",
    "Fixed",
    "Framing",
    "Gap",
    "LengthPrefix",
    "Limits",
    "Line",
    "LocalAdmission",
    "Raw",
    "Server",
    "State",
    "TcpInfo",
    "__version__",
    "ask",
    "blocking",
    "connect",
    "events",
    "parse_address",
    "run",
    "serve",
    *errors.__all__,
]

# A library does not decide where its log goes.
logging.getLogger(__name__).addHandler(logging.NullHandler())
