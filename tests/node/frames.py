# SPDX-License-Identifier: BSD-2-Clause
"""What a hostile pod puts on its link, byte by byte, through a packet socket on eth0:

  frames.py KIND --victim IP --target IP --gateway MAC [--victim-mac MAC] [--count N] [--port N]

Runs inside the pod (tests/node/spoof.py). Datagrams go to port 8080 of the target."""
import argparse
import ipaddress
import random
import socket
import struct
import subprocess

TCP, UDP, ICMP, ICMP6, FRAGMENT, OPTIONS = 6, 17, 1, 58, 44, 60
IP4, IP6, ARP, VLAN, NOBODY = 0x800, 0x86dd, 0x806, 0x8100, 0x88b5
ALL_NODES, NONE6 = ipaddress.ip_address("ff02::1"), ipaddress.ip_address("::")
ALL_NODES_MAC = b"\x33\x33\0\0\0\1"


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    data += b"\0" * (len(data) & 1)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 65535) + (total >> 16)
    return ~total & 65535


def put_sum(body, at, pseudo=b""):
    return body[:at] + struct.pack(">H", checksum(pseudo + body) or 65535) + body[at + 2:]


def with_sum(source, destination, proto, body):
    at = {TCP: 16, UDP: 6, ICMP: 2, ICMP6: 2}[proto]
    if proto == ICMP:
        return put_sum(body, at)
    return put_sum(body, at, source.packed + destination.packed + struct.pack(">II", len(body), proto))


def packet(source, destination, proto, body, hops=64, ident=1, fragment=0):
    """An IP packet around what stands behind the header; `fragment`: flags and offset of IPv4."""
    if source.version == 6:
        return struct.pack(">IHBB", 6 << 28, len(body), proto, hops) + source.packed + destination.packed + body
    head = struct.pack(">BBHHHBBH", 69, 0, 20 + len(body), ident, fragment, hops, proto, 0) + source.packed + destination.packed
    return put_sum(head, 10) + body


def ip(source, destination, proto, body, hops=64):
    return packet(source, destination, proto, with_sum(source, destination, proto, body), hops)


def udp(port):
    return struct.pack(">4H", port, 8080, 8 + 5, 0) + b"spoof"


def syn(port, to, seq=1000):
    return struct.pack(">HHIIBBHHH", port, to, seq, 0, 80, 2, 65535, 0, 0)


def options(number, behind):
    """IPv6 destination options that say nothing."""
    return b"".join(bytes([behind if i == number - 1 else OPTIONS, 0, 1, 4, 0, 0, 0, 0]) for i in range(number))


class Attacker:
    """One method a kind; each gives frame number i."""

    def __init__(self, args, own_mac, own_ip):
        self.victim, self.target, self.port = args.victim, args.target, args.port
        self.gateway, self.victim_mac, self.mac, self.ip = args.gateway, args.victim_mac, own_mac, own_ip
        self.six = args.victim.version == 6
        b = own_mac
        self.link = ipaddress.ip_address("fe80::" + f"{b[0] ^ 2:02x}{b[1]:02x}:{b[2]:02x}ff:fe{b[3]:02x}:{b[4]:02x}{b[5]:02x}")

    def frame(self, payload, source=None, ether=None, to=None):
        ether = ether or (IP6 if self.six else IP4)
        return (to or self.gateway) + (source or self.mac) + struct.pack(">H", ether) + payload

    def icmp6(self, body, source=None, to=ALL_NODES, hops=255):
        return self.frame(ip(source or self.link, to, ICMP6, body, hops), to=ALL_NODES_MAC)

    # ---- addresses that are not its own ----

    def udp(self, i):
        return self.frame(ip(self.victim, self.target, UDP, udp(40000 + i)))

    def mac_of_nobody(self, i):
        return self.frame(ip(self.ip, self.target, UDP, udp(40000 + i)), source=b"\2\0\0\0\0\x66")

    def mac_of_victim(self, _):
        return self.frame(b"x" * 46, source=self.victim_mac, ether=NOBODY)

    def mapped(self, _):
        source, target = (ipaddress.ip_address(f"::ffff:{a}") for a in (self.victim, self.target))
        return self.frame(ip(source, target, UDP, udp(40000)), ether=IP6)

    def tags(self, i):
        inside = struct.pack(">HHHH", 0, VLAN, 0, IP6 if self.six else IP4)
        return self.frame(inside + ip(self.victim, self.target, UDP, udp(40000 + i)), ether=VLAN)

    def tunnel(self, i):
        inner = ip(self.victim, self.target, UDP, udp(40000 + i))
        gre = struct.pack(">HH", 0, IP6 if self.six else IP4)
        return self.frame(packet(self.ip, self.target, 47, gre + inner) if i % 2 else
                          packet(self.ip, self.target, 41 if self.six else 4, inner))

    # ---- neighbours and routers ----

    def arp(self, op, to, target):
        body = struct.pack(">HHBBH", 1, IP4, 6, 4, op) + self.mac + self.victim.packed + to + target.packed
        return self.frame(body, ether=ARP, to=to)

    def gratuitous(self, _):
        return self.arp(1, b"\xff" * 6, self.victim)

    def reply(self, _):
        return self.arp(2, self.gateway, self.target)

    def advert(self):
        return struct.pack(">BBHI", 136, 0, 0, 0x20000000) + self.victim.packed + b"\2\1" + self.mac

    def na(self, _):
        return self.icmp6(self.advert())

    def na_hidden(self, _):
        body = options(7, ICMP6) + with_sum(self.ip, ALL_NODES, ICMP6, self.advert())
        return self.frame(packet(self.ip, ALL_NODES, OPTIONS, body, 255), to=ALL_NODES_MAC)

    def ra(self, _):
        return self.icmp6(struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + b"\1\1" + self.mac)

    def dad(self, _):
        return self.icmp6(struct.pack(">BBHI", 135, 0, 0, 0) + self.victim.packed, source=NONE6)

    def query(self, _):
        return self.icmp6(struct.pack(">BBHHH", 130, 0, 0, 1, 0) + bytes(16), hops=1)

    def redirect(self, _):
        if self.six:
            return self.icmp6(struct.pack(">BBHI", 137, 0, 0, 0) + self.ip.packed + self.target.packed, to=self.victim)
        return self.quote(0, 5, 1, int(self.ip))

    def quote(self, i, kind=None, code=None, more=0):
        """The victim's datagram to the target is said not to have arrived."""
        about = packet(self.victim, self.target, UDP, struct.pack(">4H", self.port, 8080, 13, 0) + b"hello")
        kind, code = (kind, code) if kind else (1, 4) if self.six else (3, 3)
        return self.frame(ip(self.ip, self.victim, ICMP6 if self.six else ICMP, struct.pack(">BBHI", kind, code, 0, more) + about))

    # ---- what is its own ----

    def syn(self, i):
        return self.frame(ip(self.victim, self.target, TCP, syn(1024 + i % 60000, self.port, random.getrandbits(32))))

    def lost(self, i):
        """To where no bridge knows the way: every link gets it."""
        return self.frame(ip(self.ip, self.target, TCP, syn(1024 + i, self.port)), to=b"\2\0\0\0\0\x77")

    def behind(self, i):
        """An own datagram behind headers."""
        body = with_sum(self.ip, self.target, UDP, udp(40000 + i))
        if self.six:
            return self.frame(packet(self.ip, self.target, OPTIONS, options(7, UDP) + body))
        head = packet(self.ip, self.target, UDP, b"\1" * 8 + body)
        return self.frame(put_sum(b"\x47" + head[1:10] + b"\0\0" + head[12:28], 10) + body)

    def parts(self, i):
        """An own datagram in two parts, of which the first is as short as can be."""
        body = with_sum(self.ip, self.target, UDP, udp(40000 + i // 2))
        part = body[8:] if i % 2 else body[:8]
        if self.six:
            head = struct.pack(">BBHI", UDP, 0, 8 if i % 2 else 1, i // 2)
            return self.frame(packet(self.ip, self.target, FRAGMENT, head + part))
        return self.frame(packet(self.ip, self.target, UDP, part, ident=i // 2, fragment=1 if i % 2 else 0x2000))


def own_address(version):
    words = subprocess.run(["ip", "-o", f"-{version}", "addr", "show", "dev", "eth0", "scope", "global"], capture_output=True,
                           text=True, check=True).stdout.split()
    return ipaddress.ip_address(words[words.index("inet" if version == 4 else "inet6") + 1].split("/")[0])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("kind")
    p.add_argument("--victim", type=ipaddress.ip_address, required=True)
    p.add_argument("--target", type=ipaddress.ip_address, required=True)
    p.add_argument("--gateway", type=mac, required=True)
    p.add_argument("--victim-mac", type=mac)
    p.add_argument("--count", type=int, default=1)
    p.add_argument("--port", type=int, default=8080)
    args = p.parse_args()
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(("eth0", 0))
    attacker = Attacker(args, s.getsockname()[4], own_address(args.victim.version))
    for i in range(args.count):
        s.send(getattr(attacker, args.kind)(i))


main()
