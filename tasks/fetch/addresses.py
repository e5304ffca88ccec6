"""Which addresses may be fetched from: none of this machine, of private networks or of a cloud's metadata service.

A page decides where its links and redirects lead, and a name where it resolves to. So the address that is connected to
is checked, each time, not the name. Source: the registries of special-purpose addresses (RFC 6890), as Python has them.
"""

import ipaddress

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def literal_address(host: str) -> IPAddress | None:
    """The address that a host is, in any form that resolvers accept (`127.1`, `0x7f000001`); None for a name."""
    import socket

    text = host.strip("[]")
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.ip_address(socket.inet_aton(text)) if text[:1].isdigit() else None
    except OSError:
        return None


def is_public(address: IPAddress) -> bool:
    """Whether anybody on the Internet may be at an address: global, and not a private one in other words."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is not None:
            return is_public(inner)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
