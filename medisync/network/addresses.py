"""Addresses, HOST:PORT: checked and in one form, before a certificate or a settings file is made with them."""

import ipaddress
import re
from typing import Annotated, Any

import idna
from pydantic import AfterValidator

from medisync.errors import ConfigError

EXAMPLE = "such as federation.example.org:9443"


def split_address(address: str) -> tuple[str, int]:
    """Returns host and port of an address; an IPv6 host is without brackets, and a name is as DNS has it (ASCII).

    Raises ConfigError that names the part that is wrong.
    """
    try:
        return _host_and_port(address)
    except ValueError as error:
        raise ConfigError(f"server address: {error}") from None


def join_address(host: str, port: int) -> str:
    """Returns HOST:PORT, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def require_connectable(address: str) -> str:
    """Returns the address in its one form. Raises ConfigError also for one that only a server can listen at."""
    host, port = split_address(address)
    if host in ("0.0.0.0", "::"):  # noqa: S104
        raise ConfigError(
            f"server address: {host} means all interfaces of a machine, and no hospital can connect to it; give the"
            f" server's name or address, {EXAMPLE}"
        )
    return join_address(host, port)


def as_ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Returns the IP address that a host is; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _as_setting(check: Any) -> AfterValidator:
    """Returns a check for a field of a settings file, where pydantic expects a ValueError and the field's name is known."""

    def checked(address: str) -> str:
        try:
            return str(check(address))
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("server address: ")) from None

    return AfterValidator(checked)


ServerAddress = Annotated[str, _as_setting(require_connectable)]
"""Where hospitals find the server."""
ListenAddress = Annotated[str, _as_setting(lambda address: join_address(*split_address(address)))]
"""Where a server listens."""


def _host_and_port(address: str) -> tuple[str, int]:
    text = address.strip()
    if "://" in text:
        raise ValueError(f"expected HOST:PORT without {text.split('://')[0]}://, {EXAMPLE}, got {address!r}")
    for sign, part in (("@", "a user name"), ("/", "a path"), ("?", "a query"), ("#", "a fragment")):
        if sign in text:
            raise ValueError(f"expected HOST:PORT without {part}, {EXAMPLE}, got {address!r}")
    parts = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([^:]*))?", text)
    if not parts:
        raise ValueError(
            f"expected HOST:PORT, {EXAMPLE}, with brackets around an IPv6 address, such as [2001:db8::1]:9443, got"
            f" {address!r}"
        )
    host, port = parts.groups()
    if not host or not port:
        raise ValueError(f"the {'port' if host else 'host'} is missing; expected HOST:PORT, {EXAMPLE}, got {address!r}")
    return _host(host), _port(port)


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or not 1 <= int(text[:9]) <= 65535:
        raise ValueError(f"the port must be a whole number from 1 to 65535, got {text!r}")
    return int(text)


def _host(text: str) -> str:
    if text.startswith("["):
        return _ipv6(text[1:-1])
    if re.fullmatch(r"[0-9.]+|0x[0-9a-fA-F]+", text):
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise ValueError(f"{text!r} is not an IPv4 address, such as 192.0.2.1") from None
    try:
        name = idna.encode(text, uts46=True).decode().rstrip(".")
    except idna.IDNAError as error:
        raise ValueError(f"{text!r} is not a host name ({str(error).rstrip('.')})") from None
    if not all(re.fullmatch(r"(?!-)[a-z0-9-]{1,63}(?<!-)", label) for label in name.split(".")):
        raise ValueError(f"{text!r} is not a host name; its parts hold letters, digits and hyphens only")
    return name


def _ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv6 address, such as 2001:db8::1") from None
    if address.scope_id:
        raise ValueError(
            f"{text!r} has a zone, which means something on one machine only; leave out %{address.scope_id}"
        )
    return str(address)
