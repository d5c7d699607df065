"""TLS as the command line takes it: certificates in files, contexts out."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from ..errors import SettingError, UsageError

__all__ = ["client_context", "renew_authorities", "renew_certificate", "server_context"]


def server_context(cert: str | None, key: str | None, ca: str | None) -> ssl.SSLContext | None:
    """A server's side.

    Args:
        cert: its certificate chain (PEM); without one, no TLS.
        key: its key, if that is not in the same file.
        ca: who signs the certificates that clients must show; without it, none are asked for.

    Raises:
        SettingError: a file cannot be read or is not what it should be.
        UsageError: there is a key or an authority and no certificate.
    """
    if cert is None:
        if key or ca:
            raise UsageError("TLS needs a certificate: give --tls-cert")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load("--tls-cert", cert, lambda: context.load_cert_chain(cert, key))
    if ca:
        _load("--tls-ca", ca, lambda: context.load_verify_locations(ca))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def renew_certificate(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Show clients that come from now on the certificate that the file holds now.

    Raises:
        SettingError: a file cannot be read or is not what it should be.
    """
    _load("--tls-cert", cert, lambda: context.load_cert_chain(cert, key))


def renew_authorities(context: ssl.SSLContext, ca: str, setting: str) -> None:
    """Trust those too from now on that the file has come to hold.

    Raises:
        SettingError: the file cannot be read or is not what it should be.
    """
    _load(setting, ca, lambda: context.load_verify_locations(ca))


def client_context(
    use: bool,
    ca: str | None,
    cert: str | None,
    key: str | None,
    insecure: bool,
    ca_setting: str = "--tls-ca",
) -> ssl.SSLContext | None:
    """A client's side.

    Args:
        use: whether to speak TLS; any of the others asks for it too.
        ca: who signs the server's certificate, beside those this machine trusts.
        cert: a certificate of our own, with `key` if that is not in the same file.
        insecure: trust anybody.
        ca_setting: what the setting of `ca` is called, for errors.

    Raises:
        SettingError: a file cannot be read or is not what it should be.
    """
    if not (use or ca or cert or insecure):
        return None
    context = ssl.create_default_context()
    if ca:
        _load(ca_setting, ca, lambda: context.load_verify_locations(ca))
    if cert:
        _load("--tls-cert", cert, lambda: context.load_cert_chain(cert, key))
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load(setting: str, path: str, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        raise SettingError(
            "{setting}: {path} does not hold what is needed, in PEM: {detail}",
            setting=setting, path=path, detail=error.reason or str(error),
        ) from error  # fmt: skip
    except OSError as error:
        raise SettingError(
            "{setting}: {path} cannot be read: {detail}",
            setting=setting, path=path, detail=error.strerror or str(error),
        ) from error  # fmt: skip
