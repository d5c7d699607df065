"""Whether an upstream is taken to be up: what its checks say, and what its sessions say.

Decisions only, with a clock given.
"""

from __future__ import annotations

from .settings import GuardSettings

__all__ = ["Health"]

#: How often a rest doubles at the most: up to eight times as long.
_MOST_DOUBLINGS = 3


class Health:
    """What is known of one upstream's health.

    Two things can take it out. *Checks* do after `fall` failures in a row, and bring it back
    after `rise` passed ones. *Sessions* do after `passive_failures` attempts in a row that could
    not connect: it rests. Passed checks end the first rest. If sessions fail again before one has
    succeeded, the checks do not see what is wrong: each further rest is twice as long, and at its
    end one session tries the upstream for all.

    Attributes:
        passes_checks: what its checks have said last; true while there are none.
        rests: whether it is out because of its sessions.
        retry_at: while it rests, when a session may try it.
    """

    __slots__ = ("_failures", "_falls", "_misses", "_on_trial", "_passes", "passes_checks",
                 "rests", "retry_at")  # fmt: skip

    def __init__(self) -> None:
        self.passes_checks = True
        self.rests = False
        self.retry_at = 0.0
        #: Checks passed, checks missed, and failed attempts: in a row.
        self._passes = self._misses = self._failures = 0
        #: Rests begun since a session last connected.
        self._falls = 0
        self._on_trial = False

    @property
    def is_up(self) -> bool:
        """Whether it may have sessions."""
        return self.passes_checks and not self.rests

    # ---- Checks

    def check_passed(self, settings: GuardSettings, now: float) -> None:
        """It has passed a check."""
        self._misses = 0
        self._passes += 1
        if self._passes >= settings.rise:
            self.passes_checks = True
            if self.rests and (self._falls <= 1 or now >= self.retry_at):
                self._end_rest()

    def check_failed(self, settings: GuardSettings) -> None:
        """It has not."""
        self._passes = 0
        self._misses += 1
        if self._misses >= settings.fall:
            self.passes_checks = False

    def take_over(self, settings: GuardSettings, now: float) -> None:
        """Other settings: what is switched off keeps nothing out any more."""
        if settings.check_interval is None:
            self._passes = self._misses = 0
            if not self.passes_checks:
                # Nobody will see that it is back, but for a session that tries it.
                self.passes_checks = self.rests = True
                self.retry_at = now
        if settings.passive_failures is None and self.rests:
            self._end_rest()
            self._falls = 0

    # ---- Sessions

    def connected(self) -> bool:
        """A session has connected. Returns whether that is news."""
        if not (self._failures or self._falls or self.rests):
            return False
        self._failures = self._falls = 0
        rested = self.rests
        if rested:
            self._end_rest()
        return rested

    def failed(self, settings: GuardSettings, now: float) -> None:
        """A session could not connect."""
        if self.rests:
            # Others that began before it rests say nothing new.
            if self._on_trial:
                self._rest(settings, now)
            return
        self._failures += 1
        if settings.passive_failures is not None and self._failures >= settings.passive_failures:
            self._rest(settings, now)

    def may_be_tried(self, now: float) -> bool:
        """Whether it has rested, and one session may see how it is."""
        return self.rests and self.passes_checks and now >= self.retry_at

    def begin_trial(self, settings: GuardSettings, now: float) -> None:
        """A session tries it. The next one may if this one never says how it went."""
        self._on_trial = True
        self.retry_at = now + max(settings.passive_rest, settings.connect_timeout)

    def end_rest(self, now: float) -> None:
        """It is at another place now: let it be tried at once."""
        if self.rests:
            self.retry_at = now
            self._falls = 0

    def _rest(self, settings: GuardSettings, now: float) -> None:
        self.retry_at = now + settings.passive_rest * 2 ** min(self._falls, _MOST_DOUBLINGS)
        self._falls += 1
        self.rests = True
        self._on_trial = False
        self._failures = self._passes = 0

    def _end_rest(self) -> None:
        self.rests = self._on_trial = False
        self._failures = 0
