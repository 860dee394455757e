"""Where a server listens."""

from __future__ import annotations

import ipaddress
import socket

from kovilt.errors import KoviltError


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address, which does not listen yet.

    Raises:
        KoviltError: the address cannot be used.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise KoviltError(f'{host}, port {port}: cannot be used ({reason}); name another --host or --port') from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Such as http://127.0.0.1:8000."""
    host, port = listener.getsockname()[:2]
    return f'http://{f"[{host}]" if ":" in host else host}:{port}'


def is_local(host: str | bytes) -> bool:
    """Whether a host name or address is that of this machine alone."""
    name = host.decode('latin-1') if isinstance(host, bytes) else host
    try:
        return ipaddress.ip_address(name.partition('%')[0]).is_loopback
    except ValueError:
        return name == 'localhost'
