#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""slowline.py MILLISECONDS ADDRESS...: run in a pod, holds every packet of this network namespace to these IPv4 addresses for so
long before it goes out, as a long line would; says "ready", and ends when its standard input does. The route to them leads into a TUN
device; what comes out there is sent again, under a mark whose routes are the ones from before."""
import collections
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
DEVICE, MARK, TABLE = "slow0", 7, "107"


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def default_route():
    """The words behind "default" of the main table."""
    out = subprocess.run(["ip", "-4", "route", "show", "default"], check=True, capture_output=True, text=True).stdout
    return out.split("\n")[0].split()[1:]


def device():
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def carry(tun, out, delay):
    """Packets in the order in which they came, each at its time."""
    waiting = collections.deque()
    while True:
        left = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
        readable, _, _ = select.select([tun, sys.stdin], [], [], left)
        if sys.stdin in readable and not os.read(0, 1):
            return
        if tun in readable:
            packet = os.read(tun, 65536)
            if packet[0] >> 4 == 4: # the device's own neighbour discovery is of no interest
                waiting.append((time.monotonic() + delay, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            packet = waiting.popleft()[1]
            out.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))


def main():
    delay, addresses = float(sys.argv[1]) / 1000, sys.argv[2:]
    tun = device()
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    ip("route", "replace", "default", *default_route(), "table", TABLE)
    for address in addresses:
        found = subprocess.run(["ip", "-4", "route", "get", address], check=True, capture_output=True, text=True).stdout.split()
        via = ["via", found[found.index("via") + 1]] if "via" in found else []
        ip("route", "replace", address, *via, "dev", found[found.index("dev") + 1], "table", TABLE)
    ip("rule", "add", "fwmark", str(MARK), "lookup", TABLE, "pref", "10")
    ip("link", "set", DEVICE, "up")
    for address in addresses:
        ip("route", "replace", address, "dev", DEVICE)
    print("ready", flush=True)
    try:
        carry(tun, out, delay)
    finally:
        for address in addresses:
            ip("route", "del", address, "dev", DEVICE)
        ip("rule", "del", "fwmark", str(MARK), "lookup", TABLE)


main()
