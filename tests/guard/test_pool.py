"""A guard's upstreams: who gets the next session, who waits, who is out and back."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest

from guard.pools import Bench, Session, specs
from support.leaks import ErrorLog
from tieline import Address, SettingError
from tieline.guard.pool import Pool
from tieline.guard.settings import GuardSettings
from tieline.guard.spec import parse_upstream
from tieline.guard.upstream import UpstreamState


def at(sessions: list[Session]) -> str:
    """Where they are: the names of their upstreams, `-` for one that has none."""
    return "".join("-" if session.at is None else session.at.name for session in sessions)


def states(sessions: list[Session]) -> Counter[str]:
    return Counter(session.state for session in sessions)


# ---- Choosing


def test_one_upstream() -> None:
    bench = Bench("a")
    assert bench.choose() == "a"
    assert bench.choose(None, "a") is None
    assert bench["a"].state is UpstreamState.UP
    assert bench.told == []


def test_in_turn_and_only_where_there_is_room() -> None:
    bench = Bench("a,max=1", "b", "c,max=2")
    assert at(bench.open(8)) == "abcbcbbb"


@pytest.mark.parametrize("balance", ["round-robin", "least", "hash"])
def test_what_was_tried_is_not_chosen(balance: str) -> None:
    bench = Bench("a", "b", "c", balance=balance)
    assert bench.choose(None, "a", "b") == "c"
    assert bench.choose(None, "a", "b", "c") is None


def test_a_key_keeps_its_upstream() -> None:
    bench = Bench("a", "b", "c", balance="hash")
    own = {key: bench.choose(key=key) for key in map(str, range(50))}
    assert set(own.values()) == {"a", "b", "c"}
    assert own == {key: bench.choose(key=key) for key in own}


def test_a_backup_is_for_when_nothing_else_is_up() -> None:
    bench = Bench("a,max=1", "b,backup", "c,backup")
    bench.open()
    # Full is not down.
    assert bench.choose() is None
    bench.fail("a", 3)
    assert at(bench.open(3)) == "bcb"
    bench.now += 10.0
    # The first may be tried, but is full.
    assert bench.choose() in ("b", "c")
    bench.pool.check_passed(bench["a"])
    bench.pool.check_passed(bench["a"])
    assert bench.choose() is None
    assert bench.take_told() == ["a down: refused", "a up"]


def test_no_weight_is_no_session() -> None:
    bench = Bench("a,weight=0", "b")
    assert at(bench.open(3)) == "bbb"
    bench.pool.drain("b")
    assert bench.choose() is None
    assert not bench.pool.has_hope(None)
    assert bench.pool.serves(None)


def test_a_pool_without_upstreams() -> None:
    bench = Bench()
    assert bench.choose() is None
    assert not bench.pool.serves(None)
    assert not bench.pool.has_hope(None)
    assert not bench.pool.wait(Session(bench))
    assert bench.pool.upstreams == []


# ---- Names


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        (None, "plain"),
        ("a.example.com", "plain"),
        ("a.example", "exact"),
        ("b.example", "wild"),
        ("c.d.example", "longer"),
        ("x.c.d.example", "longer"),
        ("d.example", "wild"),
        ("example", "plain"),
        ("", "plain"),
        ("." * 255, "plain"),
    ],
)
def test_exact_before_wild_before_nameless(name: str | None, chosen: str) -> None:
    bench = Bench("plain", "wild,sni=*.example", "longer,sni=*.d.example", "exact,sni=a.example")
    assert bench.choose(name) == chosen


def test_nobody_is_sent_to_another_service_because_his_own_is_down() -> None:
    bench = Bench("plain", "wild,sni=*.example", "exact,sni=a.example")
    bench.fail("exact", 3)
    assert bench.choose("a.example") is None
    assert bench.pool.serves("a.example")
    assert not bench.pool.has_hope("a.example")
    assert bench.choose("b.example") == "wild"


def test_a_name_that_nobody_has() -> None:
    bench = Bench("a,sni=a.example")
    assert not bench.pool.serves("b.example")
    assert not bench.pool.serves(None)
    assert bench.choose("b.example") is None
    assert bench.choose(None) is None


def test_names_of_the_same_upstreams_wait_in_one_row() -> None:
    bench = Bench("a,max=1,sni=x,sni=y")
    first, second, third = [Session(bench, name=name).dial() for name in ("x", "y", "x")]
    first.end()
    assert (second.state, third.state) == ("open", "waits")


# ---- Counting


def test_what_is_counted() -> None:
    bench = Bench("a")
    [session] = bench.open()
    upstream = bench["a"]
    assert (upstream.sessions, upstream.connected) == (1, 1)
    session.end()
    assert (upstream.sessions, upstream.bytes_sent, upstream.bytes_received) == (0, 10, 20)
    bench.fail("a")
    assert (upstream.failed, upstream.sessions, upstream.last_error) == (1, 0, "refused")
    bench.pool.check_failed(upstream, "silent")
    assert (upstream.checks_failed, upstream.last_error) == (1, "silent")


def test_giving_back_what_nobody_has_is_a_defect() -> None:
    bench = Bench("a")
    with pytest.raises(RuntimeError, match="more often than taken"):
        bench.pool.give_back(bench["a"])
    assert bench["a"].sessions == 0


# ---- Waiting


def test_who_waits_is_called_in_order_one_for_each_place() -> None:
    bench = Bench("a,max=2")
    sessions = bench.open(5)
    assert at(sessions) == "aa---"
    assert bench.pool.waiting == 3
    sessions[1].end()
    assert at(sessions) == "a-a--"
    sessions[0].end()
    assert at(sessions) == "--aa-"
    assert [session.calls for session in sessions] == [0, 0, 1, 1, 0]


def test_the_row_has_an_end() -> None:
    bench = Bench("a,max=1", queue=2)
    sessions = bench.open(5)
    assert states(sessions) == {"open": 1, "waits": 2, "refused": 2}
    bench.pool.change_settings(GuardSettings(queue=0))
    sessions[0].end()
    assert states(sessions) == {"over": 1, "open": 1, "waits": 1, "refused": 2}
    assert states(bench.open()) == {"refused": 1}


def test_who_has_left_is_not_called() -> None:
    bench = Bench("a,max=1")
    first, second, third = bench.open(3)
    second.end()
    second.end()
    bench.pool.leave(second)
    assert (bench.pool.waiting, bench.pool.waiting_for(bench["a"])) == (1, 1)
    first.end()
    assert (second.calls, third.state) == (0, "open")
    assert (bench.pool.waiting, bench.pool.waiting_for(bench["a"])) == (0, 0)


def test_a_session_that_fails_makes_room_too() -> None:
    bench = Bench("a,max=1")
    bench.pool.take(bench["a"])
    [waits] = bench.open()
    bench.pool.failed(bench["a"], "refused")
    assert waits.state == "waits"
    bench.pool.give_back(bench["a"])
    assert waits.state == "open"


def test_when_nothing_is_up_any_more_nobody_waits() -> None:
    bench = Bench("a,max=1", "b,max=1")
    sessions = bench.open(4)
    bench.fail("a", 3)
    assert states(sessions) == {"open": 2, "waits": 2}
    bench.fail("b", 3)
    assert states(sessions) == {"open": 2, "hopeless": 2}
    assert bench.pool.waiting == 0


def test_more_room_by_a_change_is_given_to_who_waits() -> None:
    bench = Bench("a,max=1")
    sessions = bench.open(6)
    bench.pool.apply(specs("a,max=2"))
    assert at(sessions) == "aa----"
    bench.pool.add(specs("b,max=1")[0])
    assert at(sessions) == "aab---"
    bench.pool.apply(specs("a", "b"))
    assert states(sessions) == {"open": 6}
    # A lower limit takes nothing away.
    bench.pool.apply(specs("a,max=1", "b,max=1"))
    assert bench["a"].sessions > 1
    assert bench.choose() is None


def test_one_that_is_back_takes_who_waits() -> None:
    bench = Bench("a,max=1", "b")
    bench.pool.drain("b")
    sessions = bench.open(3)
    bench.pool.enable("b")
    assert at(sessions) == "abb"


def test_who_has_tried_it_waits_for_another() -> None:
    bench = Bench("a,max=1", "b,max=1")
    filled = bench.open(2)
    picky = Session(bench, tried=[bench["a"]]).dial()
    other = Session(bench).dial()
    filled[0].end()
    assert (picky.state, picky.calls, other.state) == ("waits", 0, "open")
    filled[1].end()
    assert picky.state == "open"
    assert picky.at is bench["b"]


def test_who_waits_goes_on_waiting_when_its_name_is_for_others() -> None:
    bench = Bench("a,max=1,sni=x")
    first, second = [Session(bench, name="x").dial() for _ in range(2)]
    assert second.state == "waits"
    bench.pool.apply(specs("a,max=1,sni=y", "b,max=1,sni=x"))
    assert second.at is bench["b"]
    third = Session(bench, name="x").dial()
    bench.pool.apply(specs("a,max=1,sni=y"))
    assert third.state == "hopeless"
    first.end()


def test_who_came_first_is_first_on_whichever_route() -> None:
    bench = Bench("a,max=1,sni=x", "shared,max=1,sni=x,sni=y")
    filled = [Session(bench, name=name).dial() for name in ("x", "x")]
    row = [Session(bench, name=name).dial() for name in ("y", "x", "y", "x")]
    shared = next(session for session in filled if session.at is bench["shared"])
    for place in range(3):
        shared.end()
        shared = row[place]
        assert [session.state for session in row[: place + 2]] == ["over"] * place + [
            "open",
            "waits",
        ]
    # On one route from now on, in the same order.
    late = [Session(bench, name=name).dial() for name in ("y", "x", "y")]
    bench.pool.apply(specs("shared,max=1,sni=x,sni=y"))
    for session in (row[2], row[3], late[0], late[1]):
        assert session.state == "open"
        session.end()
    assert late[2].state == "open"


def test_a_crowd_is_called_a_few_at_a_time() -> None:
    bench = Bench("a,max=1")
    sessions = bench.open(101)
    bench.pool.apply(specs("a"))
    opened = []
    while bench.soon:
        opened.append(states(sessions)["open"])
        bench.turn()
    assert opened == [33, 65, 97]
    assert states(sessions) == {"open": 101}


def test_while_some_are_yet_to_be_called_others_may_come_and_go() -> None:
    bench = Bench("a,max=1", recover=0)
    sessions = bench.open(51)
    bench.pool.apply(specs("a,max=1000"))
    assert len(bench.soon) == 1
    sessions[0].end()
    sessions[50].end()
    bench.pool.apply(specs("a,max=2000"))
    assert len(bench.soon) == 1
    bench.turn()
    assert bench.pool.waiting == 0
    assert sessions[50].calls == 0


def test_one_who_fails_at_once_does_not_call_the_next_from_within() -> None:
    """A thousand that wait, of whom each gives its place back at once, are no thousand calls
    inside each other."""
    bench = Bench("a,max=1", passive_failures=None)
    depth = deepest = 0

    class Failing(Session):
        def on_room(self) -> None:
            nonlocal depth, deepest
            depth += 1
            deepest = max(deepest, depth)
            bench.fail("a")
            depth -= 1
            self.state = "over"

    [session] = bench.open()
    crowd = [Failing(bench).dial() for _ in range(1000)]
    session.end()
    while bench.soon:
        bench.turn()
    assert deepest == 1
    assert states(crowd) == {"over": 1000}


def test_one_who_raises_does_not_keep_the_others_waiting(error_log: ErrorLog) -> None:
    bench = Bench("a,max=1")

    class Broken(Session):
        def on_room(self) -> None:
            raise LookupError("broken")

    [session] = bench.open()
    Broken(bench).dial()
    [behind] = bench.open()
    session.end()
    assert behind.state == "open"
    assert "unexpected error" in error_log.take()[0]


async def test_the_rest_of_a_crowd_is_called_by_the_loop() -> None:
    pool = Pool(GuardSettings(), specs("a,max=1"))
    upstream = pool.upstreams[0]
    pool.take(upstream)
    called = 0

    class Crowd(Session):
        def __init__(self) -> None:
            self.name, self.key, self.tried = None, "client", ()

        def on_room(self) -> None:
            nonlocal called
            called += 1

    for _ in range(100):
        assert pool.wait(Crowd())
    pool.drain("a")
    counts = []
    while called < 100:
        counts.append(called)
        await asyncio.sleep(0)
    assert counts == [32, 64, 96]


def test_without_a_loop_all_of_a_crowd_is_called_at_once() -> None:
    bench = Bench("a,max=1")
    pool = Pool(GuardSettings(), specs("a,max=1"))
    bench.pool = pool
    sessions = bench.open(100)
    pool.apply(specs("a"))
    assert states(sessions) == {"open": 100}


# ---- Out and back


def test_sessions_that_fail_take_it_out_and_one_tries_it() -> None:
    bench = Bench("a", "b", check_interval=None, recover=None)
    bench.fail("a", 3)
    assert bench["a"].state.value == "down"
    assert at(bench.open(4)) == "bbbb"
    bench.now += 10.0
    trial = bench.pool.choose("x")
    assert trial is bench["a"]
    bench.pool.take(trial)
    # One is enough to see.
    assert at(bench.open(4)) == "bbbb"
    bench.pool.connected(trial)
    assert bench["a"].state.value == "up"
    assert at(bench.open(4)) in ("abab", "baba")
    assert bench.told == ["a down: refused", "a up"]


def test_a_trial_that_fails_lets_it_rest_for_twice_as_long() -> None:
    bench = Bench("a", "b")
    bench.fail("a", 3)
    bench.now += 10.0
    assert bench.choose() == "a"
    bench.fail("a")
    bench.now += 19.0
    assert bench.choose() == "b"
    bench.now += 1.0
    assert bench.choose() == "a"


def test_one_that_may_be_tried_is_hope_but_not_room() -> None:
    bench = Bench("a", check_interval=None)
    bench.fail("a", 3)
    assert not bench.pool.has_hope(None)
    bench.now += 10.0
    assert bench.pool.has_hope(None)
    assert bench.choose(None, "a") is None
    assert bench.choose() == "a"


def test_a_trial_is_for_who_may_go_there() -> None:
    bench = Bench("a,sni=a", "b,sni=b", "spare,sni=b,backup")
    bench.fail("a", 3)
    bench.fail("spare", 3)
    bench.now += 10.0
    assert bench.choose("b") == "b"
    assert bench.choose("a") == "a"
    bench.fail("b", 3)
    assert bench.choose("b") == "spare"


def test_one_without_a_share_is_not_tried_either() -> None:
    bench = Bench("a", "b")
    bench.fail("a", 3)
    bench.pool.apply(specs("a,weight=0", "b"))
    bench.now += 10.0
    assert bench.choose() == "b"


def test_checks_take_it_out_and_back() -> None:
    bench = Bench("a", "b")
    for _ in range(3):
        bench.pool.check_failed(bench["a"], "no answer")
    assert at(bench.open(2)) == "bb"
    bench.now += 100.0
    assert bench.choose() == "b"
    bench.pool.check_passed(bench["a"])
    bench.pool.check_passed(bench["a"])
    assert bench.told == ["a down: no answer", "a up"]
    assert bench["a"].changed_at == bench.now


def test_settings_that_switch_checks_off_leave_nothing_out_for_ever() -> None:
    bench = Bench("a")
    for _ in range(3):
        bench.pool.check_failed(bench["a"], "no answer")
    bench.pool.change_settings(GuardSettings(check_interval=None))
    assert bench.choose() == "a"
    bench.pool.change_settings(GuardSettings(check_interval=None, passive_failures=None))
    assert bench["a"].state is UpstreamState.UP


def test_other_settings_hold_at_once() -> None:
    bench = Bench("a", "b", "c")
    bench.pool.change_settings(GuardSettings(balance="hash"))
    assert len({bench.choose(key="same") for _ in range(6)}) == 1
    bench.pool.change_settings(GuardSettings(passive_failures=1))
    bench.fail("a")
    assert bench["a"].state is UpstreamState.DOWN


# ---- Slow start


def share(bench: Bench, name: str, of: int = 1000) -> int:
    """How many of so many sessions go there."""
    return sum(bench.choose() == name for _ in range(of))


def test_one_that_is_back_begins_with_a_tenth() -> None:
    bench = Bench("a", "b", recover=30.0)
    bench.fail("a", 3)
    bench.pool.check_passed(bench["a"])
    bench.pool.check_passed(bench["a"])
    assert abs(share(bench, "a") - 1000 * 0.1 / 1.1) <= 2
    bench.now += 15.0
    assert abs(share(bench, "a") - 1000 * 0.55 / 1.55) <= 2
    bench.now += 15.0
    assert share(bench, "a") == 500


def test_at_the_beginning_everyone_has_all_of_its_share() -> None:
    bench = Bench("a", "b")
    bench.pool.add(specs("c")[0])
    assert at(bench.open(6)) == "abcabc"


def test_slow_start_may_be_off_and_switched_off() -> None:
    bench = Bench("a", "b", recover=0)
    bench.pool.drain("a")
    bench.pool.enable("a")
    assert share(bench, "a") == 500
    bench.pool.change_settings(GuardSettings(recover=30.0))
    bench.pool.drain("a")
    bench.pool.enable("a")
    assert share(bench, "a") < 100
    bench.pool.change_settings(GuardSettings(recover=None))
    assert share(bench, "a") == 500


def test_one_that_falls_while_it_recovers_begins_anew() -> None:
    bench = Bench("a", "b")
    for _ in range(2):
        bench.pool.drain("a")
        bench.pool.enable("a")
        assert share(bench, "a") < 100
        bench.now += 15.0
        assert share(bench, "a") > 300


def test_a_weight_that_changes_while_it_recovers() -> None:
    bench = Bench("a", "b")
    bench.pool.drain("a")
    bench.pool.enable("a")
    bench.pool.apply(specs("a,weight=10", "b"))
    assert share(bench, "a") == 500
    bench.now += 30.0
    assert abs(share(bench, "a", 1100) - 1000) <= 1


# ---- An operator's wishes


def test_one_that_drains_gets_nothing_until_it_is_enabled() -> None:
    bench = Bench("a", "b")
    [session] = bench.open()
    bench.pool.drain("a")
    bench.pool.drain("a")
    assert bench["a"].state is UpstreamState.DRAINING
    assert at(bench.open(2)) == "bb"
    # What is found out meanwhile is told when it matters.
    for _ in range(3):
        bench.pool.check_failed(bench["a"], "no answer")
    assert bench.take_told() == ["a draining"]
    bench.pool.enable("a")
    bench.pool.enable("a")
    assert bench.take_told() == ["a down: no answer"]
    bench.pool.check_passed(bench["a"])
    bench.pool.check_passed(bench["a"])
    assert bench.take_told() == ["a up"]
    session.end()


def test_one_that_is_removed_is_forgotten_after_its_last_session() -> None:
    bench = Bench("a", "b")
    first, second, third = bench.open(3)
    removed = bench.pool.remove("a")
    assert removed.state is UpstreamState.REMOVED
    assert [each.name for each in bench.pool.upstreams] == ["b", "a"]
    assert bench.pool.find("a") is removed
    assert bench.choose() == "b"
    for name in ("remove", "drain", "enable"):
        with pytest.raises(SettingError, match="no upstream 'a'"):
            getattr(bench.pool, name)("a")
    first.end()
    assert bench.pool.find("a") is removed
    third.end()
    assert bench.pool.find("a") is None
    assert bench.told == ["-a"]
    second.end()


def test_one_that_is_removed_stays_so_whatever_is_found_out() -> None:
    bench = Bench("a", "b")
    bench.open(2)
    removed = bench.pool.remove("a")
    bench.pool.check_passed(removed)
    bench.pool.connected(removed)
    for _ in range(5):
        bench.pool.failed(removed, "refused")
    bench.now += 1000.0
    assert bench.choose() == "b"
    assert bench.told == ["-a"]


def test_a_name_that_is_not_there() -> None:
    bench = Bench("first", "second")
    with pytest.raises(SettingError) as caught:
        bench.pool.drain("frist")
    assert caught.value.fields["like"] == "first"
    assert bench.pool.find("frist") is None


def test_names_are_given_once() -> None:
    with pytest.raises(SettingError):
        Bench("a", "a")
    bench = Bench("a")
    with pytest.raises(SettingError):
        bench.pool.add(specs("a")[0])
    with pytest.raises(SettingError):
        bench.pool.apply(specs("b", "b"))
    assert [each.name for each in bench.pool.upstreams] == ["a"]
    assert bench.told == []


# ---- A reload


def test_what_is_the_same_stays_with_its_health_and_counts() -> None:
    bench = Bench("a", "b", "c")
    bench.open(3)
    bench.fail("b", 3)
    bench.pool.drain("c")
    before = bench.pool.upstreams
    bench.take_told()
    bench.pool.apply(specs("a,weight=3", "b,max=7", "c,backup"))
    assert bench.pool.upstreams == before
    assert bench.told == []
    assert [each.state.value for each in before] == ["up", "down", "draining"]
    assert [each.sessions for each in before] == [1, 1, 1]
    assert before[0].share == 3.0
    assert before[1].most == 7


def test_what_is_new_comes_and_what_is_gone_goes() -> None:
    bench = Bench("a", "b", "c")
    bench.open(3)
    bench.pool.apply(specs("d", "c", "a"))
    assert sorted(bench.take_told()) == ["+d", "-b"]
    assert [each.name for each in bench.pool.upstreams] == ["d", "c", "a", "b"]
    assert at(bench.open(3)) in ("dca", "cad", "adc", "dac")
    bench.pool.apply(specs("d", "c", "a"))
    assert bench.told == []


def test_one_that_has_moved_is_another() -> None:
    bench = Bench("a")
    [session] = bench.open()
    old = bench["a"]
    bench.pool.apply([parse_upstream("127.0.0.2:9,name=a")])
    new = bench["a"]
    assert new is not old
    assert new.spec.address == Address("127.0.0.2", 9)
    assert bench.told == ["-a", "+a"]
    assert bench.pool.upstreams == [new, old]
    session.end()
    assert bench.pool.upstreams == [new]


def test_one_that_comes_back_before_its_last_session_has_ended_is_the_same() -> None:
    bench = Bench("a,max=2", "b,max=2")
    bench.open(2)
    old = bench.pool.remove("a")
    bench.pool.apply(specs("a,max=2", "b,max=2"))
    assert bench["a"] is old
    assert old.sessions == 1
    assert at(bench.open(3)) in ("ab-", "ba-")
    assert bench.told == ["-a", "+a"]


def test_one_that_was_down_and_comes_back_is_down() -> None:
    bench = Bench("a", "b")
    bench.open(2)
    bench.fail("a", 3)
    bench.pool.remove("a")
    bench.pool.add(specs("a")[0])
    assert bench.told == ["a down: refused", "-a", "+a", "a down: refused"]
    assert at(bench.open(2)) == "bb"


# ---- Names and addresses


def candidate(host: str) -> tuple[int, tuple[str, int]]:
    return (socket.AF_INET, (host, 1))


def test_a_name_has_room_only_once_it_is_known() -> None:
    bench = Bench(recover=None)
    named = bench.pool.add(parse_upstream("db.example:1,name=a"))
    assert named.candidates() == []
    sessions = bench.open(2)
    assert states(sessions) == {"waits": 2}
    bench.pool.resolved(named, [candidate("10.0.0.1")])
    assert at(sessions) == "aa"
    assert named.candidates() == [candidate("10.0.0.1")]
    assert bench.told == ["+a"]


def test_a_name_that_leads_nowhere_is_down() -> None:
    bench = Bench()
    named = bench.pool.add(parse_upstream("db.example:1,name=a"))
    sessions = bench.open(2)
    bench.pool.not_resolved(named, "no address is known for db.example")
    assert states(sessions) == {"hopeless": 2}
    bench.pool.check_passed(named)
    assert bench.take_told() == ["+a", "a down: no address is known for db.example"]
    bench.pool.resolved(named, [candidate("10.0.0.1")])
    assert bench.take_told() == ["a up"]
    bench.pool.not_resolved(named, "the resolver is down")
    assert named.state is UpstreamState.UP
    assert named.last_error == "the resolver is down"


def test_backups_serve_while_names_are_yet_unknown() -> None:
    bench = Bench("spare,backup")
    named = bench.pool.add(parse_upstream("db.example:1,name=a"))
    assert bench.choose() == "spare"
    bench.pool.resolved(named, [candidate("10.0.0.1")])
    assert bench.choose() == "a"


def test_one_that_has_moved_may_be_tried_at_once() -> None:
    bench = Bench()
    named = bench.pool.add(parse_upstream("db.example:1,name=a"))
    bench.pool.resolved(named, [candidate("10.0.0.1")])
    bench.fail("a", 3)
    assert bench.choose() is None
    bench.pool.resolved(named, [candidate("10.0.0.1")])
    assert bench.choose() is None
    bench.pool.resolved(named, [candidate("10.0.0.1"), candidate("10.0.0.3")])
    assert bench.choose() is None
    bench.pool.resolved(named, [candidate("10.0.0.2")])
    assert bench.choose() == "a"


def test_one_that_leads_back_is_down_and_says_why() -> None:
    bench = Bench("a", "b")
    upstream = bench["a"]
    bench.pool.resolved(upstream, upstream.addresses, is_own=True)
    assert bench.take_told() == ["a down: it leads back to this guard itself"]
    bench.pool.check_passed(upstream)
    bench.pool.check_passed(upstream)
    assert at(bench.open(2)) == "bb"
    # Nor does anybody try it.
    bench.fail("a", 3)
    bench.now += 100.0
    assert at(bench.open(2)) == "bb"
    bench.pool.check_passed(upstream)
    bench.pool.check_passed(upstream)
    bench.pool.resolved(upstream, upstream.addresses)
    assert bench.take_told() == ["a up"]


def test_addresses_are_tried_each_first_in_turn() -> None:
    bench = Bench()
    named = bench.pool.add(parse_upstream("db.example:1,name=a"))
    one, two, three = found = [candidate(f"10.0.0.{number}") for number in (1, 2, 3)]
    bench.pool.resolved(named, [*found, one])
    assert [named.candidates() for _ in range(4)] == [
        [one, two, three], [two, three, one], [three, one, two], [one, two, three],
    ]  # fmt: skip
    # What is given out is the caller's.
    named.candidates().clear()
    assert len(named.candidates()) == 3


def test_addresses_that_did_not_answer_come_last() -> None:
    bench = Bench()
    named = bench.pool.add(parse_upstream("db.example:1,name=a"))
    one, two, three = found = [candidate(f"10.0.0.{number}") for number in (1, 2, 3)]
    bench.pool.resolved(named, found)
    bench.pool.check_passed(named, [two])
    assert [named.candidates()[-1] for _ in range(3)] == [two] * 3
    assert {named.candidates()[0] for _ in range(6)} == {one, three}
    bench.pool.resolved(named, [two])
    assert named.candidates() == [two]
    bench.pool.resolved(named, found)
    bench.pool.check_passed(named)
    assert {named.candidates()[0] for _ in range(3)} == {one, two, three}


def test_a_resolver_that_knows_too_much() -> None:
    bench = Bench()
    named = bench.pool.add(parse_upstream("db.example:1,name=a"))
    found = [candidate(f"10.0.{number // 256}.{number % 256}") for number in range(5000)]
    bench.pool.resolved(named, found)
    known = named.addresses
    assert len(known) == 64
    bench.pool.resolved(named, found[::-1])
    assert named.addresses == known


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("10.0.0.1:5", [(socket.AF_INET, ("10.0.0.1", 5))]),
        ("[2001:db8::1]:5", [(socket.AF_INET6, ("2001:db8::1", 5, 0, 0))]),
        ("[fe80::1%7]:5", [(socket.AF_INET6, ("fe80::1", 5, 0, 7))]),
        ("[fe80::1%eth0]:5", []),
        ("unix:/run/x", [(socket.AF_UNIX, "/run/x")]),
        ("unix:@x", [(socket.AF_UNIX, "\0x")]),
        ("localhost:5", []),
        (":5", []),
    ],
)
def test_what_is_known_without_asking(text: str, known: list[object]) -> None:
    bench = Bench()
    assert bench.pool.add(parse_upstream(text)).candidates() == known


# ---- Watchers


def test_watchers_are_told_of_other_upstreams_settings_and_own_addresses() -> None:
    bench = Bench("a")
    told: list[int] = []

    def watch() -> None:
        told.append(len(bench.pool.upstreams))

    bench.pool.watch(watch)
    bench.pool.add(specs("b")[0])
    bench.pool.change_settings(GuardSettings())
    bench.pool.own_addresses = (Address("127.0.0.1", 1),)
    bench.pool.remove("b")
    assert told == [2, 2, 2, 1]
    assert bench.pool.own_addresses == (Address("127.0.0.1", 1),)
    bench.pool.unwatch(watch)
    bench.pool.unwatch(watch)
    bench.pool.apply([])
    assert len(told) == 4
