"""Where webhooks may go: which URLs, and which addresses of the network."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from workflow_engine.models.webhooks import MOST_URL

PORTS = {"https": 443, "http": 80}
# Whole blocks of the registries of IANA, so that it does not depend on what a version of Python knows of them.
REFUSED = {
    ip_network(network): kind
    for kind, networks in {
        "this network": ("0.0.0.0/8",),
        "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
        "shared by carriers (CGNAT)": ("100.64.0.0/10",),
        "loopback": ("127.0.0.0/8",),
        "link-local": ("169.254.0.0/16", "fe80::/10"),
        "reserved": ("192.0.0.0/24", "240.0.0.0/4", "fec0::/10", "5f00::/16"),
        "for documentation": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
        "6to4": ("192.88.99.0/24", "2002::/16"),
        "for benchmarks": ("198.18.0.0/15",),
        "multicast": ("224.0.0.0/4", "ff00::/8"),
        "NAT64": ("64:ff9b::/96", "64:ff9b:1::/48"),
        "IPv4 in IPv6": ("::ffff:0:0/96",),
        "loopback or unspecified": ("::/96",),
        "Teredo or reserved": ("2001::/23",),
    }.items()
    for network in networks
}
GLOBAL_V6 = ip_network("2000::/3")
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?", re.IGNORECASE)
_PRINTABLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class TargetRules:
    """What the project's settings allow; ``ports``: besides that of the scheme; empty: any."""

    allow_http: bool = False
    allow_private: bool = False
    ports: Collection[int] = (8443,)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart. ``host`` is lower case ASCII, without the brackets of an IPv6 address."""

    scheme: str
    host: str
    port: int
    # Path and query, as they are sent.
    path: str

    @property
    def authority(self) -> str:
        """The value of the header ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The URL without its query."""
        return f"{self.scheme}://{self.authority}{self.path.partition('?')[0]}"


class BadTarget(ValueError):
    """A URL or address that nothing is sent to; the text says why, and repeats no part of the URL but its host."""


def target_of(url: str, rules: TargetRules) -> Target:
    """Take a URL apart. Raises ``BadTarget``."""
    if not url or len(url) > MOST_URL:
        raise BadTarget(f"must have 1 to {MOST_URL} characters, got {len(url)}")
    # What programs read in different ways is not read at all.
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise BadTarget("must be written in printable ASCII, with % for the rest, and without a backslash")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadTarget("is no URL that can be read") from error
    allowed = ("https", "http") if rules.allow_http else ("https",)
    if parts.scheme not in allowed:
        extra = "" if rules.allow_http else " (WEBHOOK_ALLOW_HTTP allows http:// too)"
        raise BadTarget(f"must begin with {' or '.join(f'{item}://' for item in allowed)}{extra}")
    if "@" in parts.netloc:
        raise BadTarget("must have no user name and no password")
    if parts.fragment:
        raise BadTarget("must have no fragment (#…)")
    host = (parts.hostname or "").lower()
    _check_host(host, rules)
    port = PORTS[parts.scheme] if port is None else port
    _check_port(port, parts.scheme, rules)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, path)


def _check_host(host: str, rules: TargetRules) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host) or len(host) > 253:
            raise BadTarget("must name a host, in ASCII (xn--… for others)") from None
        last = host.rstrip(".").rpartition(".")[2]
        if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last):
            # 127.1, 0x7f000001, 2130706433: addresses as C reads them.
            raise BadTarget("must write an address in full, as 192.0.2.1 or [2001:db8::1]") from None
        if last == "localhost" and not rules.allow_private:
            raise BadTarget("must not name this computer (WEBHOOK_ALLOW_PRIVATE allows it)") from None
    else:
        check_address(address, rules)


def _check_port(port: int, scheme: str, rules: TargetRules) -> None:
    allowed = {*rules.ports, PORTS[scheme]}
    if not 0 < port < 65536 or (rules.ports and port not in allowed):
        raise BadTarget(f"must have a port of {', '.join(map(str, sorted(allowed)))} (WEBHOOK_PORTS), got {port}")


def check_address(address: IPv4Address | IPv6Address, rules: TargetRules) -> None:
    """Raises ``BadTarget`` for an address that is not one of the public internet, unless the rules allow all."""
    if rules.allow_private:
        return
    kind = next((kind for network, kind in REFUSED.items() if address in network), None)
    if kind is None and address.version == 6 and address not in GLOBAL_V6:
        kind = "not global"
    if kind is not None:
        raise BadTarget(f"must not be at {address}, which is {kind} (WEBHOOK_ALLOW_PRIVATE allows it)")
