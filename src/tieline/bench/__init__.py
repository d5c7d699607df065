"""Load for a TCP service, and what it tells: how many exchanges, how long they took, what failed.

`Plan` says what to do, `run` (or `measure`, on a loop) does it, `Result` is what came of it.
"""

from .comparing import Comparison, compare
from .expecting import Expectation
from .histogram import Histogram
from .messages import Messages
from .plan import Ending, Mode, Plan
from .progress import Phase, Progress
from .result import Failure, Result
from .running import measure, run

__all__ = [
    "Comparison", "Ending", "Expectation", "Failure", "Histogram", "Messages", "Mode", "Phase",
    "Plan", "Progress", "Result", "compare", "measure", "run",
]  # fmt: skip
