"""Upstreams on their way back: a session tries what has rested, and a share grows."""

from __future__ import annotations

from collections.abc import Collection

from .routing import Route
from .upstream import Upstream, UpstreamState

__all__ = ["FIRST_SHARE", "Recovery"]

#: The part of its weight with which an upstream begins that is back, so that it is not overrun
#: while it is still cold.
FIRST_SHARE = 0.1


class Recovery:
    """Those that are on their way back.

    Attributes:
        resting: those that are out because of their sessions.
        growing: those that are back, and whose share grows.
    """

    __slots__ = ("growing", "resting")

    def __init__(self) -> None:
        self.resting: dict[Upstream, None] = {}
        self.growing: dict[Upstream, None] = {}

    def note(self, upstream: Upstream) -> None:
        """Something has happened to it: see whether it rests."""
        if upstream.rests:
            self.resting[upstream] = None
        else:
            self.resting.pop(upstream, None)

    def begin(self, upstream: Upstream, now: float, seconds: float | None) -> None:
        """It is back, or gone: its share is whole, or grows to that in so many seconds (`None` or
        0: it is whole at once)."""
        self._end(upstream)
        if seconds and upstream.state is UpstreamState.UP:
            upstream.back_since = now
            self.growing[upstream] = None

    def grow(self, now: float, seconds: float | None) -> None:
        """Give each the share that it has by now."""
        for upstream in list(self.growing):
            since = now - upstream.back_since
            if not seconds or since >= seconds:
                self._end(upstream)
            else:
                part = FIRST_SHARE + (1 - FIRST_SHARE) * since / seconds
                upstream.share = upstream.spec.weight * part

    def _end(self, upstream: Upstream) -> None:
        self.growing.pop(upstream, None)
        upstream.share = float(upstream.spec.weight)

    def find_trial(self, route: Route, tried: Collection[Upstream], now: float) -> Upstream | None:
        """One that has rested, and that the next session on this route is to try."""
        # Backups stay in reserve while another is up.
        reserve = bool(route.up) and not route.up[0].spec.backup
        for upstream in self.resting:
            if (
                upstream.health.may_be_tried(now)
                and upstream in route.upstreams
                and upstream.can_take
                and upstream.spec.weight
                and not (upstream.spec.backup and reserve)
                and upstream not in tried
            ):
                return upstream
        return None
