"""Events as log lines: text for people, JSON for programs, and never at a connection's cost.

Lines are written by one thread, behind a queue that has an end. A sink that is stuck or full
costs lines, which are counted; what a crowd at the door causes is told at a bounded rate, with
the number of lines left out.
"""

from .lines import LinesLeftOut, LinesLost, attributes, text
from .log import EventLog

__all__ = ["EventLog", "LinesLeftOut", "LinesLost", "attributes", "text"]
