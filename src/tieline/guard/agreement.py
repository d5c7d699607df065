"""What makes no sense together: settings, upstreams and TLS of one guard."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from ..errors import SettingError
from .settings import GuardSettings
from .spec import UpstreamSpec

__all__ = ["check_together"]


def check_together(
    settings: GuardSettings,
    specs: Iterable[UpstreamSpec],
    tls: ssl.SSLContext | None,
    upstream_tls: ssl.SSLContext | None,
    upstream_name: str | None,
) -> None:
    """See that a guard can be made of these.

    Raises:
        SettingError: it cannot.
    """
    specs = list(specs)
    if tls is not None and tls.protocol is ssl.PROTOCOL_TLS_CLIENT:
        raise SettingError(
            "a guard needs a server-side TLS context for its clients",
            hint="make it with ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)",
        )
    if upstream_tls is not None and upstream_tls.protocol is ssl.PROTOCOL_TLS_SERVER:
        raise SettingError(
            "a guard needs a client-side TLS context for its upstreams",
            hint="make it with ssl.create_default_context()",
        )
    names = [each for each in specs if each.names]
    if names and settings.sni == "off" and tls is None:
        raise SettingError(
            "upstream {name!r} is for a name that nobody looks at",
            hint='set sni to "on", or end TLS here',
            name=names[0].name,
        )
    if settings.sni == "on" and tls is not None:
        raise SettingError(
            "TLS is ended here, so there is no need to look at names from outside",
            hint='set sni to "off": upstreams are chosen by name all the same',
        )
    if upstream_tls is not None and upstream_tls.check_hostname and upstream_name is None:
        nameless = [each for each in specs if not each.address.host]
        if nameless:
            raise SettingError(
                "upstream {name!r} has no host to compare with its certificate",
                hint="give upstream_name, the name in the certificate",
                name=nameless[0].name,
            )
