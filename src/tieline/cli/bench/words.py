"""What terminal and page both say of a bench: names, meanings, and the sentences about figures."""

from __future__ import annotations

from ...bench import Comparison, Failure, Result
from ..translation import N_, ngettext
from ..translation import gettext as _
from ..visible import visible
from .amounts import count, duration, per_second, share

__all__ = [
    "TIMES", "counts_connections", "failure_name", "headline", "loop_of", "meaning_of_failure",
    "meaning_of_time", "mode_name", "remarks", "time_name", "what_a_connection_costs",
]  # fmt: skip

#: From which share of the time on it is said that the load had to wait for a processor.
_STARVED = 0.1

#: The histograms of a result, in the order in which they happen.
TIMES = ("lateness", "connecting", "securing", "first_byte", "exchange", "whole")

_TIME_NAMES = {
    "lateness": N_("lateness"),
    "connecting": N_("connect"),
    "securing": N_("TLS handshake"),
    "first_byte": N_("first byte"),
    "exchange": N_("exchange"),
    "whole": N_("whole connection"),
}

_TIME_MEANINGS = {
    "lateness": N_("from the instant when an exchange was due to its message"),
    "connecting": N_("from the call to a connection, TCP alone"),
    "securing": N_("from the connection to the end of the TLS handshake"),
    "first_byte": N_("from a message to the first byte of its answer"),
    "exchange": N_("from a message to the end of its answer"),
    "whole": N_("from the call to the end of the answer, connecting included"),
}
_EXCHANGE_WHEN_DUE = N_("from the instant when it was due to the end of its answer")

_MODES = {
    "long": N_("long connections"),
    "short": N_("short connections"),
    "mixed": N_("short and long connections"),
    "hold": N_("connections that are held"),
    "storm": N_("connections all at once"),
    "comparison": N_("short against long connections"),
}

_FAILURES = {
    Failure.REFUSED: (N_("refused"), N_("nobody listens there, or the queue is full")),
    Failure.UNREACHABLE: (N_("unreachable"), N_("there is no way to the address")),
    Failure.CONNECT_TIMEOUT: (
        N_("no connection in time"),
        N_("the call was not answered in the time for connecting"),
    ),
    Failure.TLS: (N_("TLS failed"), N_("the two sides did not agree, or a certificate is wrong")),
    Failure.RESET: (N_("reset"), N_("the server threw the connection away")),
    Failure.CLOSED_EARLY: (
        N_("closed early"),
        N_("the server ended the connection before its answer was whole"),
    ),
    Failure.REPLY_TIMEOUT: (N_("no answer in time"), N_("the answer took longer than it may")),
    Failure.WRONG_ANSWER: (N_("wrong answer"), N_("an answer came, but not the expected one")),
    Failure.MALFORMED: (
        N_("malformed"),
        N_("what came is no message of this framing, or too large a one"),
    ),
    Failure.UNASKED: (N_("unasked"), N_("an answer came that nobody had asked for")),
    Failure.NOT_ENDED: (
        N_("not ended"),
        N_("the server answered, and did not end the connection in time"),
    ),
    Failure.UNFINISHED: (N_("unfinished"), N_("under way when there was no more time for it")),
    Failure.UNSENT: (
        N_("never sent"),
        N_("its instant came, and no connection was free for it"),
    ),
    Failure.NO_PORTS: (
        N_("no ports left"),
        N_("all ports of the source address are taken: a limit of this machine"),
    ),
    Failure.NO_DESCRIPTORS: (
        N_("no descriptors left"),
        N_("this process may open no more files: a limit of this machine"),
    ),
    Failure.OTHER: (N_("other"), N_("an error that fits none of these")),
}


def time_name(name: str) -> str:
    """What one of `TIMES` is called."""
    return _(_TIME_NAMES[name])


def meaning_of_time(name: str, result: Result) -> str:
    """From when to when one of `TIMES` was measured."""
    if name == "exchange" and result.rate is not None:
        return _(_EXCHANGE_WHEN_DUE)
    return _(_TIME_MEANINGS[name])


def mode_name(mode: str) -> str:
    """What a mode is called; `comparison` is one too."""
    return _(_MODES[mode]) if mode in _MODES else visible(mode)


def failure_name(reason: str) -> str:
    """What a reason is called."""
    return _(_FAILURES[Failure(reason)][0]) if reason in _FAILURES else visible(reason)


def meaning_of_failure(reason: str) -> str:
    """What a reason means; empty for one that is not known here."""
    return _(_FAILURES[Failure(reason)][1]) if reason in _FAILURES else ""


def counts_connections(result: Result) -> bool:
    """Whether it is connections that were counted, since there was nothing else to do."""
    return result.mode in ("hold", "storm") and not result.exchanges


def loop_of(result: Result) -> str:
    """How the load was paced."""
    if result.mode in ("hold", "storm"):
        if result.rate is None:
            return _("opened as fast as they can be")
        return _("{rate} opened a second").format(rate=per_second(result.rate))
    if result.rate is None:
        return _("closed loop: the next message goes out when the last is answered")
    return _(
        "open loop: {rate} a second, each due at its own instant, from which its time counts"
    ).format(rate=per_second(result.rate))


def headline(result: Result) -> str:
    """A run in a sentence."""
    if result.mode == "hold" and result.opened and not result.exchanges:
        number = result.held_most
        return ngettext(
            "{count} connection open at once.", "{count} connections open at once.", number
        ).format(count=count(number))
    if counts_connections(result) and result.opened:
        return _("{held} connections open at once, {rate} opened a second.").format(
            held=count(result.held_most), rate=per_second(result.per_second)
        )
    if counts_connections(result):
        return _("Not one connection was made.")
    if not result.exchanges:
        return _("Not one exchange was answered.")
    return _(
        "{rate} exchanges a second over {connections} at once: half of them within {p50}, "
        "99 of 100 within {p99}."
    ).format(
        rate=per_second(result.per_second),
        connections=_how_many(result),
        p50=duration(result.exchange.percentile(0.5)),
        p99=duration(result.exchange.percentile(0.99)),
    )


def _how_many(result: Result) -> str:
    number = result.connections
    if result.mode == "short":
        text = ngettext("{count} short connection", "{count} short connections", number)
    elif result.mode == "long":
        text = ngettext("{count} long connection", "{count} long connections", number)
    else:
        text = ngettext("{count} connection", "{count} connections", number)
    return text.format(count=count(number))


def what_a_connection_costs(comparison: Comparison) -> list[str]:
    """What a comparison comes to, in sentences."""
    if not comparison.is_whole:
        return [_("There is nothing to compare: one of the two kinds was never answered.")]
    if not comparison.connection_cost:
        return [
            _(
                "Here a connection costs nothing that can be measured: exchanges over short "
                "connections take no longer than over long ones."
            )
        ]
    number = comparison.cost_in_exchanges
    texts = [
        _(
            "A connection costs {cost}, as much as {number} exchanges over one that is there."
        ).format(cost=duration(comparison.connection_cost), number=f"{number:,.1f}")
    ]
    if comparison.tenth_from <= 1:
        texts.append(_("That is less than a tenth even where it carries only one exchange."))
    else:
        texts.append(
            _(
                "A long connection pays from the second exchange on; from {exchanges} exchanges "
                "on, making and ending it is less than a tenth of the time."
            ).format(exchanges=count(comparison.tenth_from))
        )
    if comparison.cpu_cost:
        texts.append(
            _("For the processor of this side it costs {cpu}.").format(
                cpu=duration(comparison.cpu_cost)
            )
        )
    return texts


def remarks(result: Result) -> list[str]:
    """What must be known before the figures are believed; the gravest first."""
    texts = []
    if result.cut_short:
        texts.append(
            _("Cut short: this is what was measured in {seconds}.").format(
                seconds=duration(result.seconds)
            )
        )
    if result.failed and counts_connections(result):
        texts.append(
            ngettext("{count} failure.", "{count} failures.", result.failed).format(
                count=count(result.failed)
            )
        )
    elif result.failed:
        texts.append(
            _("{failed} of {tried} came to nothing ({share}); no time counts them.").format(
                failed=count(result.failed),
                tried=count(result.exchanges + result.failed),
                share=share(result.failure_share),
            )
        )
    if result.lost:
        texts.append(
            ngettext(
                "The other side ended {count} connection that was to be held.",
                "The other side ended {count} connections that were to be held.",
                result.lost,
            ).format(count=count(result.lost))
        )
    if result.generator.is_limit or result.generator.starved > _STARVED:
        texts.append(_at_its_limit(result))
    # A few that wait for a moment are nobody's falling behind.
    if result.rate is not None and result.waiting > max(result.connections, result.rate / 10):
        texts.append(
            _(
                "The server fell behind: up to {count} exchanges were due at once and waited for "
                "a connection."
            ).format(count=count(result.waiting))
        )
    if result.kernel.retransmitted:
        texts.append(
            ngettext(
                "The kernel sent {count} segment again, on {sampled} connections that were "
                "looked at.",
                "The kernel sent {count} segments again, on {sampled} connections that were "
                "looked at.",
                result.kernel.retransmitted,
            ).format(count=count(result.kernel.retransmitted), sampled=count(result.kernel.sampled))
        )
    return texts


def _at_its_limit(result: Result) -> str:
    generator = result.generator
    if generator.starved > _STARVED:
        return _(
            "The load itself wanted a processor and had none for {share} of the time: others use "
            "this machine, and the server may be able to do more."
        ).format(share=share(generator.starved))
    return _(
        "The load itself was busy for {share} of the time: the server may be able to do more. "
        "More processes (--processes) can tell."
    ).format(share=share(min(generator.busiest, 1.0)))
