"""The name in a TLS greeting: what OpenSSL sends, however it is cut, and what is no greeting."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.transports import Secrets
from tieline import MalformedError
from tieline.guard.client_hello import MAXIMUM, Hello, HelloReader, server_name

anything = settings(deadline=None, max_examples=300)

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def greeting(
    name: str | None = None,
    alpn: Iterable[str] = (),
    version: ssl.TLSVersion | None = None,
) -> bytes:
    """What OpenSSL, in Python, sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def vector(data: bytes, width: int = 2) -> bytes:
    return len(data).to_bytes(width, "big") + data


def records(message: bytes, size: int = 16_384, version: bytes = b"\x03\x01") -> bytes:
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16" + version + vector(piece) for piece in pieces)


def message(body: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + vector(body, 3)


def extension(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(value)


def names(*found: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(b"".join(bytes([kind]) + vector(name) for name in found)))


def protocols(*found: bytes) -> bytes:
    return extension(16, vector(b"".join(vector(name, 1) for name in found)))


def body(
    extensions: bytes | None = b"",
    *,
    version: bytes = b"\x03\x03",
    session: bytes = b"",
    ciphers: bytes = b"\x13\x01",
    compressions: bytes = b"\0",
) -> bytes:
    """A ClientHello by hand, without its head."""
    start = version + bytes(32) + vector(session, 1) + vector(ciphers) + vector(compressions, 1)
    return start if extensions is None else start + vector(extensions)


def hello(extensions: bytes | None = b"", **parts: bytes) -> bytes:
    return records(message(body(extensions, **parts)))


def read_in(pieces: Iterable[bytes]) -> Hello | None:
    reader = HelloReader()
    for piece in pieces:
        found = reader.feed(piece)
        if found is not None:
            return found
    return None


def understood(data: bytes) -> Hello:
    """What a greeting says; the same wherever the stream is cut, and not a byte too early."""
    found = server_name(data)
    assert found is not None
    # Everywhere in a usual greeting, and at many places of a long one.
    for seen in range(0, len(data), 1 + len(data) // 600):
        assert server_name(data[:seen]) is None, seen
        assert read_in([data[:seen], b"", data[seen:]]) == found, seen
    assert server_name(data[:-1]) is None
    assert read_in(data[at : at + 1] for at in range(len(data))) == found
    assert server_name(bytearray(data)) == found
    assert server_name(data + b"\x17\x03\x03\0\1x and more") == found
    return found


def fails_at(data: bytes) -> int:
    """The position of the byte at which these show to be no greeting, whatever follows."""
    position = None
    for seen in range(len(data) + 1):
        try:
            assert server_name(data[:seen]) is None
            assert position is None
        except MalformedError:
            position = seen - 1 if position is None else position
    assert position is not None
    with pytest.raises(MalformedError):
        read_in(data[at : at + 1] for at in range(len(data)))
    return position


# ---- Greetings


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("alpn", [(), ("h2", "http/1.1"), ("postgresql",)])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        (None, None),
        ("a.example", "a.example"),
        ("DB1.Example.COM", "db1.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("under_score.example", "under_score.example"),
        # OpenSSL does not send addresses.
        ("127.0.0.1", None),
        ("::1", None),
    ],
)
def test_greetings_of_openssl_in_python(
    version: ssl.TLSVersion, alpn: tuple[str, ...], name: str | None, told: str | None
) -> None:
    assert understood(greeting(name, alpn, version)) == Hello(told, alpn)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 43, 100, 511])
def test_greetings_in_many_records(size: int) -> None:
    whole = greeting("a.example", ["h2"])
    pieces = records(whole[5:], size)
    assert understood(pieces) == Hello("a.example", ("h2",))


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-tls1_3", "-servername", "a.example"], Hello("a.example", ())),
        (["-tls1_2", "-servername", "a.example"], Hello("a.example", ())),
        (["-tls1_2", "-noservername"], Hello(None, ())),
        (["-tls1_3", "-servername", "a.example.", "-alpn", "h2,x"],
            Hello("a.example", ("h2", "x"))),
        (["-tls1_3", "-servername", "x" * 255], Hello("x" * 255, ())),
        (["-no_tls1_3", "-legacy_renegotiation", "-servername", "B.example", "-status"],
            Hello("b.example", ())),
        # A greeting over several records, as OpenSSL cuts them.
        (["-servername", "a.example", "-max_send_frag", "512",
            "-alpn", ",".join(f"protocol-{number}" for number in range(100))],
            Hello("a.example", tuple(f"protocol-{number}" for number in range(100)))),
    ],
)  # fmt: skip
def test_greetings_of_openssl_s_client(options: list[str], told: Hello) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        program = subprocess.Popen(
            ["openssl", "s_client", "-connect", address, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            connected, _ = listener.accept()
            with connected:
                connected.settimeout(20)
                reader, data, found = HelloReader(), b"", None
                while found is None:
                    piece = connected.recv(4_096)
                    assert piece, program.communicate()[0]
                    data += piece
                    found = reader.feed(piece)
        finally:
            program.kill()
            program.communicate()
    assert found == understood(data) == told
    assert ("-max_send_frag" in options) is (data[3:5] == b"\x02\x00")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_greetings_of_curl() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        port = listener.getsockname()[1]
        program = subprocess.Popen(
            ["curl", "--silent", "--max-time", "20", "--resolve", f"a.example:{port}:127.0.0.1",
             f"https://a.example:{port}/"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            connected, _ = listener.accept()
            with connected:
                connected.settimeout(20)
                data = connected.recv(65_536)
        finally:
            program.kill()
            program.communicate()
    assert understood(data).server_name == "a.example"


def test_greetings_without_extensions() -> None:
    assert understood(hello(None)) == understood(hello(b"")) == Hello(None, ())
    assert understood(hello(None, version=b"\x03\x00", session=bytes(32))) == Hello(None, ())


def test_extensions_that_are_not_known_and_grease() -> None:
    grease = extension(0x0A0A, b"") + extension(0xFAFA, b"\0")
    data = hello(
        grease + names(b"a.example") + protocols(b"\x0a\x0a", b"h2", b"\xfa\xfa"),
        ciphers=b"\x1a\x1a\x13\x01",
        compressions=b"\1\0",
    )  # fmt: skip
    assert understood(data) == Hello("a.example", ("\\x0a\\x0a", "h2", "\\xfa\\xfa"))


def test_records_of_any_minor_version() -> None:
    for minor in range(256):
        data = records(message(body()), version=bytes([3, minor]))
        assert server_name(data) == Hello(None, ())


def test_more_messages_in_the_greeting_s_record_are_the_upstream_s() -> None:
    whole = message(body(names(b"a.example")))
    assert server_name(records(whole + b"\x0b\0\0")) == Hello("a.example", ())


@pytest.mark.parametrize(
    ("name", "told"),
    [(b"A", "a"), (b"a.", "a"), (b"a..", "a."), (b"*.example", "*.example"), (b"a%b", "a%b"),
     (b"[::1]", "[::1]"), (b"x" * 255, "x" * 255), (b"x" * 255 + b".", "x" * 255)],
)  # fmt: skip
def test_names_are_taken_as_they_can_be_shown(name: bytes, told: str) -> None:
    assert understood(hello(names(name))) == Hello(told, ())


# ---- No greetings


@pytest.mark.parametrize(
    ("data", "position"),
    [
        (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", 0),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", 0),
        (b"*1\r\n$4\r\nPING\r\n", 0),
        (b"PING\r\n", 0),
        (b"EHLO a.example\r\n", 0),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n", 0),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", 0),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", 0),  # PostgreSQL's SSLRequest
        (b"\x05\x01\0", 0),
        (b"\0", 0),
        (b"\xff", 0),
        # SSLv2, with the short and the long head of its records.
        (bytes.fromhex("802e0103010015000000100000350000"), 0),
        (bytes.fromhex("002e000103010015000000100000350000"), 0),
        (b"\x15\x03\x01\0\2\2\x28", 0),
        (b"\x14\x03\x01\0\1\1", 0),
        (b"\x17\x03\x03\0\5hello", 0),
        (b"\x16\x02\x00", 1),
        (b"\x16\xfe\xfd\0\0\0\0", 1),  # DTLS
        (b"\x16GET", 1),
        (b"\x16\x03\x01\0\0", 4),
        (b"\x16\x03\x01\x40\x01\x01", 4),
        (b"\x16\x03\x01\xff\xff\x01", 4),
        # Another message of the handshake: a server's greeting, a certificate.
        (b"\x16\x03\x03\0\4\2\0\0\0", 5),
        (b"\x16\x03\x03\0\4\x0b\0\0\0", 5),
        # What follows a first piece is no piece of it.
        (b"\x16\x03\x01\0\1\1" + b"\x15\x03\x01\0\2\2\x28", 6),
        (b"\x16\x03\x01\0\1\1" + b"\x17", 6),
        (b"\x16\x03\x01\0\1\1" + b"\x16\x02", 7),
        (b"\x16\x03\x01\0\1\1" + b"\x16\x03\x01\0\0", 10),
    ],
)
def test_what_is_no_greeting_shows_it_at_once(data: bytes, position: int) -> None:
    assert fails_at(data) == position
    assert fails_at(data + b"and more") == position


def test_what_is_wrong_is_told_without_what_came() -> None:
    for data, told in [
        (b"\x1b[31m", "this is not TLS"),
        (b"\x16\x1b[31m", "this is not TLS"),
        (b"\x15\x03\x01\0\2\2\x28", "a TLS alert came instead of a greeting"),
        (b"\x16\x03\x03\0\4\2\0\0\0", "a TLS client began with something else than its greeting"),
        (hello(names(b"\x1b[31m")), "the server name of a TLS greeting is none"),
    ]:
        with pytest.raises(MalformedError) as caught:
            server_name(data)
        assert str(caught.value) == told


def test_the_largest_greeting() -> None:
    def padded(size: int) -> bytes:
        """A message of this size, with the name at its end."""
        rest = extension(21, b"") + names(b"a.example")
        fixed = len(message(body(rest)))
        return message(body(extension(21, bytes(size - fixed)) + names(b"a.example")))

    # Of one record, of two, and of as many as there can be.
    for size, record in [(16_384, 16_384), (MAXIMUM - 10, 16_384), (2_900, 1)]:
        data = records(padded(size), record)
        assert len(data) <= MAXIMUM
        assert server_name(data) == Hello("a.example", ())
    with pytest.raises(MalformedError, match=f"over {MAXIMUM} bytes"):
        server_name(records(padded(MAXIMUM - 9)))
    with pytest.raises(MalformedError, match=f"over {MAXIMUM} bytes"):
        server_name(records(padded(2_950), 1))
    # Nobody waits for the 16 MB that a message can announce.
    assert fails_at(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(9)) == 8
    assert fails_at(b"\x16\x03\x01\x40\x00\x01\0\x43\xf8" + bytes(9)) == 8
    assert fails_at(records(b"\1\xff\xff\xff", 1)) == 23
    # And nobody feeds it for ever.
    with pytest.raises(MalformedError):
        read_in([records(b"\1\0\x40\0" + bytes(70_000), 1)])


WHOLE = body(names(b"a.example") + protocols(b"h2"))

MALFORMED = {
    "nothing": b"",
    "only a version": b"\x03\x03",
    "a random cut short": WHOLE[:33],
    "no session id": WHOLE[:34],
    "a major version of its own": b"\x02" + WHOLE[1:],
    "a long session id": body(session=bytes(33)),
    "a session id beyond its end": bytes([3, 3, *bytes(32), 1]),
    "no ciphers": body(ciphers=b""),
    "an odd number of bytes of ciphers": body(ciphers=b"\0\1\2"),
    "no compression": body(compressions=b""),
    "one byte behind": body(None) + b"\0",
    "extensions beyond their end": body(None) + b"\0\1",
    "bytes behind the extensions": body() + b"\0",
    "an extension of three bytes": body(b"\0\0\0"),
    "an extension of one byte": body(b"\0"),
    "an extension beyond its end": body(b"\0\x15\0\1"),
    "two names' extensions": body(names(b"a") + names(b"b")),
    "an extension twice": body(extension(99, b"") * 2),
    "an empty server name extension": body(extension(0, b"")),
    "a server name extension of one byte": body(extension(0, b"\0")),
    "an empty list of names": body(extension(0, b"\0\0")),
    "a list of names beyond its end": body(extension(0, b"\0\4\0\0\0")),
    "a list of names with more behind": body(extension(0, vector(b"\0\0\1a") + b"\0")),
    "a name beyond its end": body(extension(0, vector(b"\0\0\2a"))),
    "a name without a length": body(extension(0, vector(b"\0"))),
    "an empty name": body(names(b"")),
    "two names": body(names(b"a", b"b")),
    "a name of another kind": body(names(b"a", kind=1)),
    "a dot": body(names(b".")),
    "a NUL in a name": body(names(b"a.example\0.evil.example")),
    "a newline in a name": body(names(b"a\nb")),
    "a space in a name": body(names(b"a b")),
    "an escape in a name": body(names(b"\x1b[31m")),
    "a DEL in a name": body(names(b"a\x7f")),
    "UTF-8 in a name": body(names("bücher.example".encode())),
    "a long name": body(names(b"x" * 256)),
    "an empty ALPN extension": body(extension(16, b"")),
    "an empty list of protocols": body(protocols()),
    "an empty protocol": body(protocols(b"h2", b"")),
    "a protocol beyond its end": body(extension(16, vector(b"\3h2"))),
    "a list of protocols with more behind": body(extension(16, vector(b"\2h2") + b"\0")),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_greetings_that_are_malformed(what: str) -> None:
    data = records(message(MALFORMED[what]))
    # Not before they are whole.
    assert fails_at(data) == len(data) - 1


def test_a_greeting_that_is_cut_short_and_says_so() -> None:
    """Each length inside of it is held against what is there."""
    for size in range(len(WHOLE)):
        cut = records(message(WHOLE[:size]))
        if size == len(body(None)):
            assert server_name(cut) == Hello(None, ())
        else:
            with pytest.raises(MalformedError):
                server_name(cut)


# ---- Anything


GREETINGS = [
    greeting("a.example", ["h2", "http/1.1"], ssl.TLSVersion.TLSv1_3),
    greeting("A.Example", [], ssl.TLSVersion.TLSv1_2),
    greeting(None, ["h2"]),
    hello(names(b"a.example") + protocols(b"h2")),
    records(greeting("a.example")[5:], 3),
]


def _damaged(data: bytes, damage: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for at, byte in damage:
        changed[at % len(changed)] = byte
    return bytes(changed)


_wild = st.one_of(
    st.binary(max_size=100),
    st.binary(max_size=100).map(lambda rest: b"\x16\x03\x01" + rest),
    st.binary(max_size=200).map(lambda rest: records(message(rest))),
    st.binary(max_size=100).map(hello),
    st.binary(max_size=60).map(lambda rest: hello(extension(0, rest))),
    st.binary(max_size=60).map(lambda rest: hello(extension(16, rest))),
    st.builds(
        _damaged,
        st.sampled_from(GREETINGS),
        st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 255)), max_size=3),
    ),
)


def _outcome(pieces: Iterable[bytes]) -> Hello | str | None:
    try:
        return read_in(pieces)
    except MalformedError as error:
        return str(error)


@anything
@given(_wild, st.lists(st.integers(0, 700), max_size=6))
def test_any_bytes_are_a_greeting_or_an_error_however_they_are_cut(
    data: bytes, cuts: list[int]
) -> None:
    whole = _outcome([data])
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert _outcome([data[start:end] for start, end in pairwise(edges)]) == whole
    assert _outcome(data[at : at + 1] for at in range(len(data))) == whole
    if isinstance(whole, str):
        assert "{" not in whole
    elif whole is not None:
        shown = [*whole.alpn, *filter(None, [whole.server_name])]
        assert all(text.isascii() and text.isprintable() and " " not in text for text in shown)
        assert (whole.server_name or "").lower() == (whole.server_name or "")


@pytest.fixture(scope="module")
def named_by_openssl(secrets: Secrets) -> Callable[[bytes], list[str | None]]:
    """How OpenSSL's server reads a greeting: the name it asks us about, if it gets that far."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secrets.certificate.configure_cert(context)
    asked: list[str | None] = []
    context.sni_callback = lambda session, name, of: asked.append(name)

    def read(data: bytes) -> list[str | None]:
        asked.clear()
        incoming = ssl.MemoryBIO()
        incoming.write(data)
        server = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
        before = sys.unraisablehook
        # Python's way to say that a name is not ASCII, and refuse it.
        sys.unraisablehook = lambda _: None
        try:
            with contextlib.suppress(ssl.SSLError):
                server.do_handshake()
        finally:
            sys.unraisablehook = before
        return list(asked)

    return read


@settings(anything, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=_wild)
def test_openssl_never_reads_another_name_than_we(
    data: bytes, named_by_openssl: Callable[[bytes], list[str | None]]
) -> None:
    """What we let through to one upstream is not taken for another there."""
    ours = _outcome([data])
    for name in named_by_openssl(data):
        told = None if name is None else name.removesuffix(".").lower()
        assert isinstance(ours, str) or ours == Hello(told, ours.alpn if ours else ()), ours


def test_openssl_reads_the_names_that_we_read(
    named_by_openssl: Callable[[bytes], list[str | None]],
) -> None:
    for data in GREETINGS[:2]:
        found = server_name(data)
        assert found is not None
        (name,) = named_by_openssl(data)
        assert name is not None
        assert found.server_name == name.lower() == "a.example"


# ---- Cost


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of Python a call runs: a measure that no busy machine changes."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("record", [1, 16_384])
def test_the_cost_grows_with_the_size_however_it_comes(record: int) -> None:
    def cost(size: int, step: int) -> int:
        data = records(b"\1\0\x0b\xff" + bytes(size), record)
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        return lines_run(lambda: read_in(pieces))

    for step in (1, 100_000):
        costs = [cost(size, step) for size in (500, 1_000, 2_000)]
        assert costs[2] - costs[1] <= 2.1 * (costs[1] - costs[0]) + 10


def test_the_cost_of_many_extensions() -> None:
    def cost(count: int) -> int:
        many = b"".join(extension(0x1000 + number, b"") for number in range(count))
        data = hello(many)
        return lines_run(lambda: server_name(data))

    costs = [cost(count) for count in (500, 1_000, 2_000)]
    assert costs[2] - costs[1] <= 2.1 * (costs[1] - costs[0])
