"""Five minutes of churn: nothing is left of it, and nobody was told anything that is not so."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.services import size
from many.guard_proofs.churning import churn


@pytest.mark.timeout(900)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_churn(loop: str, tmp_path: Path) -> None:
    churn(loop, size(30, 300), 20_26, tmp_path / "ends", short=False)
