"""Load for a TCP service, and what it tells: how many exchanges, how long they took, what failed.

`Plan` says what to do, `run` (or `measure`, on a loop) does it, `Result` is what came of it.
"""

from .comparing import Comparison, compare
from .differing import Difference, Figure, differ
from .expecting import ANY_ANSWER, Echo, Exactly, Expectation, Matching
from .histogram import Histogram
from .messages import Constant, InTurn, Messages, Template
from .plan import Ending, Mode, Plan
from .progress import Phase, Progress
from .result import Failure, Result
from .running import measure, run
from .sources import Shortage, shortages
from .thresholds import Threshold, parse_threshold

__all__ = [
    "ANY_ANSWER", "Comparison", "Constant", "Difference", "Echo", "Ending", "Exactly",
    "Expectation", "Failure", "Figure", "Histogram", "InTurn", "Matching", "Messages", "Mode",
    "Phase", "Plan", "Progress", "Result", "Shortage", "Template", "Threshold", "compare", "differ",
    "measure", "parse_threshold", "run", "shortages",
]  # fmt: skip
