"""Messages and their answers on one connection. `Exchanging.on_ready` is a bench's hot path."""

from __future__ import annotations

import asyncio
from typing import Any

from ..errors import PeerError, UsageError
from ..framing import Codec, Raw
from ..reactor import READABLE, WRITABLE
from ..tls import SHORT_OF_MEMORY
from .place import READ_SIZE, Load, Place
from .recording import Recorder
from .result import Failure

__all__ = ["Exchanging", "Talk"]


class Talk:
    """What is said, for all connections of a load that say the same.

    Attributes:
        message: the only message, or `None`; `wire`: its bytes.
        is_raw: whether no framing says where an answer ends.
        answer: its only right answer, or `None`; `answer_wire`: how that comes as a rule, where a
            read can be known to be the whole of it.
    """

    __slots__ = (
        "answer", "answer_wire", "expectation", "is_raw", "message", "messages", "wire",
    )  # fmt: skip

    def __init__(self, load: Load) -> None:
        plan = load.plan
        self.messages = plan.messages
        self.is_raw = isinstance(plan.framing, Raw)
        self.expectation = plan.expectation
        self.message = self.answer = None
        self.wire = self.answer_wire = b""
        if plan.messages is None or plan.messages.only is None:
            return
        codec = load.new_codec()
        self.message = plan.messages.only
        self.wire = codec.pack(self.message)
        self.answer = plan.expectation.only_answer(self.message)
        # Where silence ends a message, no read is.
        if self.answer is not None and codec.quiet is None:
            self.answer_wire = codec.pack(self.answer)


class Exchanging(Place):
    """A connection on which a message is sent, its answer awaited, and so on.

    Attributes:
        due: in an open loop, the instant of the exchange under way, by the reactor's clock.
    """

    __slots__ = (
        "_answer",
        "_asked",
        "_clock",
        "_codec",
        "_first",
        "_is_out_of_step",
        "_is_waiting",
        "_message",
        "_numbered",
        "_piece",
        "_plain_answer",
        "_quiet_timer",
        "_record",
        "_recv",
        "_rest_of_message",
        "_send",
        "_talk",
        "_was_answered",
        "_wire",
        "due",
    )  # fmt: skip

    def __init__(self, load: Load, recorder: Recorder, talk: Talk) -> None:
        super().__init__(load, recorder)
        self._talk = talk
        self._record = recorder.times.append
        self._wire = talk.wire
        self._message = talk.message
        #: What a read gives that brings the right answer whole; `None` while there is no such
        #: thing, or a part of an answer has come.
        self._answer: bytes | None = None
        #: The same, while nothing but the time of an exchange needs attention: the same message
        #: again and again, and no end in sight. `settle` takes it away.
        self._plain_answer: bytes | None = None
        self._clock = load.reactor.clock
        #: Made by `_framed` where it is needed: a read that is the right answer needs none.
        self._codec: Codec | None = None
        self._asked = self._first = self.due = 0.0
        self._is_waiting = self._was_answered = self._is_out_of_step = False
        self._numbered = 0
        self._rest_of_message = b""
        self._piece = b""
        self._quiet_timer: asyncio.TimerHandle | None = None

    @property
    def under_way(self) -> int:
        return 1 if self._is_waiting else super().under_way

    # ---- What becomes of an exchange: its subclasses'

    def _after_exchange(self, now: float) -> None:
        """The answer has come whole; it may have been wrong."""
        raise NotImplementedError

    def _on_idle_end(self) -> None:
        """The server has ended its stream while it owed nothing."""
        raise NotImplementedError

    # ---- The hot path

    def on_ready(self, mask: int) -> None:
        """The reactor's call: the answer may have come."""
        if mask != READABLE or not self.is_open:
            super().on_ready(mask)
            return
        try:
            data = self._recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._recv_failed(error)
            return
        now = self._clock()
        if data == self._plain_answer:
            self._record(now - self._asked)
            self._asked = now
            wire = self._wire
            try:
                sent = self._send(wire)
            except OSError as error:
                self._send_failed(error)
                return
            if sent != len(wire):
                self._keep_rest(wire[sent:])
        else:
            self._on_data(data, now)

    # ---- Sending

    def open(self) -> None:
        # Until it has asked anything, it is one that found nobody.
        self._numbered = 0
        self._was_answered = self._is_out_of_step = False
        super().open()

    def _on_open(self, now: float) -> None:
        assert self._channel is not None
        self._recv = self._channel.recv
        self._send = self._channel.send
        self._codec = None
        self._is_waiting = False
        self._expect()
        plan = self._load.plan
        # Else it is filed by now, for the end of the time for connecting.
        if plan.reply_timeout < plan.connect_timeout:
            self._load.reactor.file(self, now + plan.reply_timeout)

    def _expect(self) -> None:
        """The next bytes begin an answer."""
        self._answer = self._talk.answer_wire or None

    def _framed(self) -> Codec:
        """The connection's codec."""
        if self._codec is None:
            self._codec = self._load.new_codec()
        return self._codec

    def ask(self, now: float) -> None:
        """Send the next message."""
        talk = self._talk
        self._is_waiting = True
        self._asked = now
        self._first = 0.0
        self._piece = b""
        self._numbered += 1
        if talk.message is None:
            assert talk.messages is not None
            try:
                self._message = talk.messages.make(self.number, self._numbered)
                self._wire = self._framed().pack(self._message)
            except UsageError as error:
                self._load.give_up(error)
                return
        wire = self._wire
        self.recorder.counted.bytes_sent += len(wire)
        if self._rest_of_message:
            # It was answered before it was sent whole.
            self._rest_of_message += wire
            return
        try:
            sent = self._send(wire)
        except OSError as error:
            self._send_failed(error)
            return
        # Once asked, always filed: the wheel looks at what is waiting when it comes by.
        if not self.slot:
            self._load.reactor.file(self, now + self._load.plan.reply_timeout)
        if sent != len(wire) or (self._tls is not None and self._tls.owed):
            self._keep_rest(wire[sent:])

    def _keep_rest(self, rest: bytes) -> None:
        assert self.connected is not None
        self._rest_of_message += rest
        self._plain_answer = None
        self._load.reactor.modify(self.connected.fileno(), READABLE | WRITABLE)

    def _send_failed(self, error: OSError) -> None:
        if isinstance(error, BlockingIOError) or error.errno in SHORT_OF_MEMORY:
            self._keep_rest(self._wire)
        else:
            self.fail_by(error)

    def _send_rest(self) -> None:
        rest = self._rest_of_message
        try:
            if rest:
                rest = rest[self._send(rest) :]
            elif self._tls is not None:
                self._tls.flush()
        except OSError as error:
            if not isinstance(error, BlockingIOError) and error.errno not in SHORT_OF_MEMORY:
                self.fail_by(error)
            return
        self._rest_of_message = rest
        if not rest and not (self._tls is not None and self._tls.owed):
            assert self.connected is not None
            self._load.reactor.modify(self.connected.fileno(), READABLE)

    # ---- Receiving

    def _on_special(self, mask: int) -> None:
        if mask & WRITABLE:
            self._send_rest()
        if not mask & ~WRITABLE or not self.is_open:
            return
        try:
            data = self._recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._recv_failed(error)
            return
        self._on_data(data, self._load.reactor.clock())

    def _recv_failed(self, error: OSError) -> None:
        if error.errno in SHORT_OF_MEMORY:
            return  # the next turn asks again
        if self._is_waiting:
            self.fail_by(error)
        else:
            # What ends between two exchanges has cost none.
            self._on_idle_end()

    def _on_data(self, data: bytes, now: float) -> None:
        """What came is not the plain case of `on_ready`."""
        if not data:
            self._on_end(now)
            return
        if not self._is_waiting:
            self.recorder.counted.bytes_received += len(data)
            # What comes before anything was asked is a greeting.
            if self._numbered:
                self.fail(Failure.UNASKED)
            return
        if data == self._answer:
            self._complete(True, now, len(data))
            return
        self._answer = self._plain_answer = None
        self._first = self._first or now
        if self._talk.is_raw:
            self._on_piece(data, now)
            return
        try:
            answers = self._framed().feed(data)
        except PeerError:
            self.recorder.counted.bytes_received += len(data)
            self.fail(Failure.MALFORMED)
            return
        self._take(answers, now, len(data))

    def _on_piece(self, data: bytes, now: float) -> None:
        """Without a framing an answer is as long as the right one, however it is cut; where no
        one answer is right, it is what a read gave."""
        only = self._talk.expectation.only_answer(self._message)
        right = None if only is None else self._framed().pack(only)
        whole = self._piece + data
        if right is not None and len(whole) < len(right):
            self._piece = whole
            self.recorder.counted.bytes_received += len(data)
            return
        self._piece = b""
        if right is not None:
            self._complete(whole == right, now, len(data))
        else:
            self._take(self._framed().feed(data), now, len(data))

    def _take(self, answers: list[Any], now: float, size: int) -> None:
        """Messages came, or a part of one."""
        if answers:
            if len(answers) > 1:
                self._load.failed(self, Failure.UNASKED)
                self._is_out_of_step = True
            self._complete(self._is_right(answers[0]), now, size)
            return
        self.recorder.counted.bytes_received += size
        codec = self._codec
        if codec is not None and codec.quiet is not None and codec.incomplete:
            if self._quiet_timer is not None:
                self._quiet_timer.cancel()
            self._quiet_timer = self._load.reactor.loop.call_later(codec.quiet, self._on_quiet, now)

    def _on_quiet(self, last: float) -> None:
        self._quiet_timer = None
        if not self._is_waiting or self._codec is None:
            return
        try:
            answers = self._codec.quiet_passed()
        except PeerError:
            self.fail(Failure.MALFORMED)
            return
        if answers:
            # It was whole when its last byte came.
            self._complete(self._is_right(answers[0]), last, 0)

    def _on_end(self, now: float) -> None:
        """The server has ended its stream."""
        if not self._is_waiting:
            self._on_idle_end()
            return
        try:
            answers = self._framed().end()
        except PeerError:
            answers = []
        if answers:
            # Its end completes the answer.
            self._complete(self._is_right(answers[0]), now, 0)
        else:
            self.fail(Failure.CLOSED_EARLY)

    def _is_right(self, answer: Any) -> bool:
        talk = self._talk
        if talk.answer is not None:
            return bool(answer == talk.answer)
        return talk.expectation.is_met(self._message, answer)

    def _complete(self, is_right: bool, now: float, size: int) -> None:
        """The answer is whole."""
        recorder = self.recorder
        recorder.counted.bytes_received += size
        self._is_waiting = False
        self._was_answered = True
        if is_right:
            self._record_exchange(now)
        else:
            self._load.failed(self, Failure.WRONG_ANSWER)
        if self._codec is None or not self._codec.incomplete:
            self._expect()
        self._after_exchange(now)

    def _record_exchange(self, now: float) -> None:
        recorder = self.recorder
        began = self.due or self._asked
        taken = now - began
        recorder.times.append(taken)
        recorder.other_exchanges += 1
        if self._first and self._first != now:
            recorder.late_first.append(self._first - began)
            recorder.late_whole.append(taken)

    # ---- Time and end

    def on_deadline(self, now: float) -> float | None:
        if not self.is_open:
            return super().on_deadline(now)
        if not self._is_waiting:
            return None
        due = self._asked + self._load.plan.reply_timeout
        if now < due:
            return due
        self.fail(Failure.REPLY_TIMEOUT)
        return None

    def close(self, reset: bool = False) -> None:
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
            self._quiet_timer = None
        self._is_waiting = False
        self._rest_of_message = b""
        super().close(reset)
