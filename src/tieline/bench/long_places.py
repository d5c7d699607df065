"""Places that hold long connections: one exchange after another, or several under way at once."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from ..errors import PeerError, UsageError
from .exchanging import Exchanging, Talk
from .place import Load
from .recording import Recorder
from .result import Failure

__all__ = ["LongPlace", "PacedLoad", "PipelinedPlace"]


class PacedLoad(Load, Protocol):
    """What says when the next exchange of a place begins."""

    #: Whether a place asks again as soon as it is answered, without end, and says the same.
    is_plain: bool

    def take_ticket(self) -> bool:
        """Whether one more exchange is to be begun."""

    def is_free(self, place: Any, now: float) -> bool:
        """Open loop: the place has nothing to do. False in a closed loop."""

    @property
    def waiting(self) -> int:
        """Open loop: exchanges that are due, and wait for a place."""

    def is_measured(self, due: float) -> bool:
        """Open loop: whether the exchange of this instant is one of those that are measured."""


class LongPlace(Exchanging):
    """A connection that is kept, with one exchange under way at a time."""

    __slots__ = ()

    #: Whether its exchanges may be one like the other: see `Exchanging.on_ready`.
    _may_be_plain: ClassVar[bool] = True

    _load: PacedLoad

    def begin(self) -> None:
        """Begin."""
        self.open()

    @property
    def asked(self) -> int:
        """Exchanges that have begun."""
        return int(self._is_waiting)

    def can_ask(self) -> bool:
        """Whether an exchange can begin now."""
        return self.is_open and not self._is_waiting

    def ask_due(self, now: float, due: float) -> None:
        """Open loop: begin the exchange of an instant."""
        self.due = due
        if self._load.is_measured(due):
            self.recorder.lateness.append(now - due)
        self.ask(now)

    def _on_open(self, now: float) -> None:
        super()._on_open(now)
        self._go_on(now)

    def _expect(self) -> None:
        super()._expect()
        # The first is looked at: by it a connection is known to be good for something.
        plain = self._may_be_plain and self._load.is_plain
        plain = plain and self._was_answered and not self._rest_of_message
        self._plain_answer = self._answer if plain else None

    def settle(self) -> None:
        """Begin nothing more; what is under way is finished."""
        self._plain_answer = None
        if not self.under_way and not self._load.waiting:
            self.close()

    def _go_on(self, now: float) -> None:
        """The next exchange, or none."""
        if self._load.is_free(self, now):
            return
        if self._load.take_ticket():
            self.ask(now)
        else:
            self.close()

    def _after_exchange(self, now: float) -> None:
        load = self._load
        plan = load.plan
        if not load.going and not load.waiting:
            self.close()
        elif self._is_out_of_step:
            # What comes next would be taken for an answer.
            self.close()
            self.begin_again(rest=False)
        elif plan.exchanges is not None and self._numbered >= plan.exchanges:
            self.close()
            self.open()
        elif plan.think:
            self._timer = load.reactor.loop.call_later(
                plan.think, self._after_thinking, self.number
            )
        else:
            self._go_on(now)

    def _after_thinking(self, number: int) -> None:
        self._timer = None
        # It may have been lost meanwhile, and another be there.
        if number == self.number and self.can_ask() and self._load.going:
            self._go_on(self._load.reactor.clock())

    def _on_idle_end(self) -> None:
        self.recorder.counted.lost += 1
        self.fail(Failure.CLOSED_EARLY)

    def _after_failure(self) -> None:
        if self._load.going:
            # One that has served goes on at once; one that was closed as it came would spin.
            self.begin_again(rest=not self._was_answered)

    def fail(self, failure: Failure) -> None:
        if self._is_waiting and self.due and not self._load.is_measured(self.due):
            # Of a warm-up: nobody counts it.
            self.close(reset=True)
            self._after_failure()
        else:
            super().fail(failure)

    def _record_exchange(self, now: float) -> None:
        if not self.due or self._load.is_measured(self.due):
            super()._record_exchange(now)


class PipelinedPlace(LongPlace):
    """A connection with several messages under way: what was asked first is answered first."""

    __slots__ = ("_under_way",)

    _may_be_plain = False

    def __init__(self, load: Load, recorder: Recorder, talk: Talk) -> None:
        super().__init__(load, recorder, talk)
        #: When each was asked (open loop: its instant), and what it was.
        self._under_way: deque[tuple[float, Any]] = deque()

    @property
    def under_way(self) -> int:
        return len(self._under_way) or super().under_way

    @property
    def asked(self) -> int:
        return len(self._under_way)

    def can_ask(self) -> bool:
        plan = self._load.plan
        if plan.exchanges is not None and self._numbered >= plan.exchanges:
            return False
        return self.is_open and len(self._under_way) < plan.pipeline

    def _on_open(self, now: float) -> None:
        self._under_way.clear()
        super()._on_open(now)

    def _go_on(self, now: float) -> None:
        room = self._load.plan.pipeline - len(self._under_way)
        if self._load.is_free(self, now):
            return
        self._ask_several(room, now)
        if not self._under_way:
            self.close()

    def _ask_several(self, most: int, now: float) -> None:
        """Ask as many as there are tickets for, all in one write."""
        exchanges = self._load.plan.exchanges
        if exchanges is not None:
            most = min(most, exchanges - self._numbered)
        count = 0
        while count < most and self._load.take_ticket():
            count += 1
        if not count:
            return
        self._write(self._written(count, now), now)

    def _written(self, count: int, began: float) -> bytes:
        """So many messages as bytes; they are under way from now on."""
        talk = self._talk
        self._numbered += count
        if talk.message is not None:
            self._under_way.extend([(began, talk.message)] * count)
            return talk.wire * count
        assert talk.messages is not None
        codec = self._framed()
        pieces = []
        try:
            for number in range(self._numbered - count + 1, self._numbered + 1):
                message = talk.messages.make(self.number, number)
                pieces.append(codec.pack(message))
                self._under_way.append((began, message))
        except UsageError as error:
            self._load.give_up(error)
        return b"".join(pieces)

    def _write(self, wire: bytes, now: float) -> None:
        self._wire = wire
        self._is_waiting = bool(self._under_way)
        self.recorder.counted.bytes_sent += len(wire)
        self._asked = now if len(self._under_way) == 1 else self._asked or now
        if self._rest_of_message:
            self._rest_of_message += self._wire
            return
        try:
            sent = self._send(self._wire)
        except OSError as error:
            self._send_failed(error)
            return
        if not self.slot:
            self._load.reactor.file(self, now + self._load.plan.reply_timeout)
        if sent != len(self._wire) or (self._tls is not None and self._tls.owed):
            self._keep_rest(self._wire[sent:])

    def ask_due(self, now: float, due: float) -> None:
        if self._load.is_measured(due):
            self.recorder.lateness.append(now - due)
        self._write(self._written(1, due), now)

    def _on_data(self, data: bytes, now: float) -> None:
        wire = self._answer
        if wire and data and self._is_waiting:
            count, rest = divmod(len(data), len(wire))
            if not rest and count <= len(self._under_way) and data == wire * count:
                self._finish([True] * count, now, len(data))
                return
        super()._on_data(data, now)

    def _take(self, answers: list[Any], now: float, size: int) -> None:
        expected = len(self._under_way)
        if len(answers) > expected:
            self._load.failed(self, Failure.UNASKED)
            self._is_out_of_step = True
        if not answers:
            self.recorder.counted.bytes_received += size
            return
        asked = [message for _, message in self._under_way]
        rights = [
            self._is_the_answer(message, answer)
            for message, answer in zip(asked, answers, strict=False)
        ]
        self._finish(rights, now, size)

    def _is_the_answer(self, message: Any, answer: Any) -> bool:
        talk = self._talk
        if talk.answer is not None:
            return bool(answer == talk.answer)
        return talk.expectation.is_met(message, answer)

    def _on_end(self, now: float) -> None:
        if not self._is_waiting:
            super()._on_end(now)
            return
        # Where an answer was cut off, it fails below with all others that are under way.
        with contextlib.suppress(PeerError):
            self._take(self._framed().end(), now, 0)
        if self.is_open:
            self.fail(Failure.CLOSED_EARLY)

    def _finish(self, rights: Sequence[bool], now: float, size: int) -> None:
        """The first of those under way are answered: which of them rightly."""
        recorder, load = self.recorder, self._load
        counted = recorder.counted
        counted.bytes_received += size
        paced = bool(load.plan.rate)
        for is_right in rights:
            began = self._under_way.popleft()[0]
            if not is_right:
                load.failed(self, Failure.WRONG_ANSWER)
            elif not paced or load.is_measured(began):
                recorder.times.append(now - began)
                recorder.other_exchanges += 1
        self._was_answered = True
        # The oldest that is left has been waiting since it was asked, or since this answer.
        self._asked = now
        self._is_waiting = bool(self._under_way)
        if self._codec is None or not self._codec.incomplete:
            self._expect()
        if not self._is_waiting or (load.going and not self._is_out_of_step):
            self._after_exchange(now)

    def _after_exchange(self, now: float) -> None:
        exchanges = self._load.plan.exchanges
        if exchanges is None or self._numbered < exchanges or not self._under_way:
            super()._after_exchange(now)

    def fail(self, failure: Failure) -> None:
        # One is counted in any case; each of those that were under way is one.
        self.recorder.fail(failure, max(0, len(self._under_way) - 1))
        super().fail(failure)

    def close(self, reset: bool = False) -> None:
        self._under_way.clear()
        super().close(reset)
