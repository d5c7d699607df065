"""Upstreams that are back: what they get grows, so that they are not overrun while still cold."""

from __future__ import annotations

from .upstream import Upstream

__all__ = ["FIRST_SHARE", "Recovery"]

#: The part of its weight with which an upstream begins that is back.
FIRST_SHARE = 0.1


class Recovery:
    """Those whose share still grows.

    Attributes:
        upstreams: which they are.
    """

    __slots__ = ("upstreams",)

    def __init__(self) -> None:
        self.upstreams: dict[Upstream, None] = {}

    def begin(self, upstream: Upstream, now: float, seconds: float | None) -> None:
        """It is back; in so many seconds it has all of its share (`None` or 0: at once)."""
        if seconds:
            upstream.back_since = now
            self.upstreams[upstream] = None

    def end(self, upstream: Upstream) -> None:
        """It is gone again, and has its whole share for when it is back. Idempotent."""
        self.upstreams.pop(upstream, None)
        upstream.share = float(upstream.spec.weight)

    def grow(self, now: float, seconds: float | None) -> None:
        """Give each the share that it has by now."""
        for upstream in list(self.upstreams):
            since = now - upstream.back_since
            if not seconds or since >= seconds:
                self.end(upstream)
            else:
                part = FIRST_SHARE + (1 - FIRST_SHARE) * since / seconds
                upstream.share = upstream.spec.weight * part
