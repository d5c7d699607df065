"""How `connect` and `send` open a connection: address, TLS, framing and charset."""

from __future__ import annotations

import dataclasses
import ssl
from dataclasses import dataclass
from typing import Any

from ..address import Address
from ..client import CLIENT_LIMITS, Connecting
from ..client import connect as make_connection
from .options import Setting
from .parameters import DURATION, charset_of
from .payload_framing import PayloadFraming
from .tls_settings import client_context
from .translation import N_

__all__ = ["Dialling", "check_dialling", "dialling_settings"]


@dataclass(frozen=True, slots=True)
class Dialling:
    """Everything that is needed to open a connection, checked.

    Attributes:
        address: where to.
        framing: where messages end, and how they are written.
        timeout: seconds for all of connecting.
    """

    address: Address
    framing: PayloadFraming
    timeout: float | None
    max_message: int
    tls: ssl.SSLContext | None
    server_name: str | None

    @classmethod
    def of(cls, address: Address, given: dict[str, Any]) -> Dialling:
        """From the values of `text_settings` and `dialling_settings`.

        Raises:
            SettingError, UsageError: they make no sense.
        """
        charset = charset_of(given["encoding"], given["errors"])
        return cls(
            address=address,
            framing=PayloadFraming(given["framing"], charset, given["errors"]),
            timeout=given["timeout"],
            max_message=given["max_message"],
            tls=client_context(
                given["tls"], given["tls_ca"], given["tls_cert"], given["tls_key"],
                given["tls_insecure"],
            ),
            server_name=given["tls_name"],
        )  # fmt: skip

    def dial(self) -> Connecting:
        """A connection that is about to be made."""
        return make_connection(
            self.address,
            framing=self.framing,
            tls=self.tls,
            server_name=self.server_name,
            timeout=self.timeout,
            limits=dataclasses.replace(CLIENT_LIMITS, max_message=self.max_message),
        )


def check_dialling(given: dict[str, Any]) -> None:
    """Say what makes no sense together, wherever the connection may lead.

    Raises:
        SettingError, UsageError: there is something.
    """
    Dialling.of(Address("127.0.0.1", 1), given)


def dialling_settings() -> tuple[Setting, ...]:
    """How long to wait, and TLS."""
    return (
        Setting(
            ["--timeout"], type=DURATION, default="10s", brief=True,
            help=N_("how long connecting, and then a reply, may take"),
        ),
        Setting(["--tls"], is_flag=True, brief=True, help=N_("speak TLS")),
        Setting(
            ["--tls-ca"], metavar="FILE",
            help=N_("trust certificates signed by one of these too (PEM)"),
        ),
        Setting(
            ["--tls-cert"], metavar="FILE", help=N_("show this certificate to the server (PEM)")
        ),
        Setting(["--tls-key"], metavar="FILE", help=N_("its key, if it is not in the same file")),
        Setting(
            ["--tls-name"], metavar="NAME",
            help=N_("the name that the server must prove to have, instead of the host"),
        ),
        Setting(
            ["--tls-insecure"], is_flag=True,
            help=N_("trust any certificate: anybody may be listening in"),
        ),
    )  # fmt: skip
