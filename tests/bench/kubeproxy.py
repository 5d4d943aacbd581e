# SPDX-License-Identifier: BSD-2-Clause
"""Rules of the shape that kube-proxy writes for N Services, for iptables-restore and for nft: what the tc path is measured against. The
live service stands in the middle, where it is on average: iptables asks one service after the other. It has ten endpoints, which are all
the server; each of the others has one, since more would only take longer to load."""
import ipaddress

PODS = "10.244.0.0/16"
MARK = "0x4000"


class Services:
    """As tests/bench/gen.py has them: (number, cluster IP, [(endpoint, port)])."""

    def __init__(self, number, live):
        self.number, self.live = number, live

    def __iter__(self):
        first = int(ipaddress.ip_address("172.16.0.1"))
        order = [*range(1, self.number // 2 + 1), 0, *range(self.number // 2 + 1, self.number)]
        for i in order:
            vip = ipaddress.ip_address("10.96.0.1") + i
            yield i, vip, [(ipaddress.ip_address(first + i), 8080)] if i else [self.live] * 10


def iptables(services):
    chains = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"]
    rules = ["-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES", "-A POSTROUTING -j KUBE-POSTROUTING",
             f"-A KUBE-MARK-MASQ -j MARK --or-mark {MARK}", f"-A KUBE-POSTROUTING -m mark ! --mark {MARK}/{MARK} -j RETURN",
             f"-A KUBE-POSTROUTING -j MARK --xor-mark {MARK}", "-A KUBE-POSTROUTING -j MASQUERADE --random-fully"]
    for i, vip, endpoints in services:
        svc = f"KUBE-SVC-{i:08}"
        chains.append(svc)
        rules += [f"-A KUBE-SERVICES -d {vip}/32 -p tcp -m tcp --dport 80 -j {svc}",
                  f"-A {svc} ! -s {PODS} -d {vip}/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ"]
        for j, (ip, port) in enumerate(endpoints):
            sep = f"KUBE-SEP-{i:06}-{j:03}"
            chains.append(sep)
            left = len(endpoints) - j
            chance = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
            rules += [f"-A {svc} {chance}-j {sep}", f"-A {sep} -s {ip}/32 -j KUBE-MARK-MASQ",
                      f"-A {sep} -p tcp -m tcp -j DNAT --to-destination {ip}:{port}"]
    rules.append("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")
    forward = ["*filter", ":KUBE-FORWARD - [0:0]", ":KUBE-PROXY-FIREWALL - [0:0]",
               "-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL", "-A FORWARD -j KUBE-FORWARD",
               "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP", f"-A KUBE-FORWARD -m mark --mark {MARK}/{MARK} -j ACCEPT",
               "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "COMMIT"]
    return "\n".join(["*nat", *(f":{c} - [0:0]" for c in chains), *rules, "COMMIT", *forward, ""])


def nft(services):
    chains, elements = [], []
    for i, vip, endpoints in services:
        elements.append(f"{vip} . tcp . 80 : goto service-{i}")
        number = len(endpoints)
        verdicts = ", ".join(f"{j} : goto endpoint-{i}-{j}" for j in range(number))
        chains.append(f"chain service-{i} {{ ip daddr {vip} tcp dport 80 ip saddr != {PODS} jump mark-for-masquerade; "
                      f"numgen random mod {number} vmap {{ {verdicts} }}; }}")
        chains += [f"chain endpoint-{i}-{j} {{ ip saddr {ip} jump mark-for-masquerade; meta l4proto tcp dnat to {ip}:{port}; }}"
                   for j, (ip, port) in enumerate(endpoints)]
    # A chain stands before whoever names it.
    ends = [c for c in chains if c.startswith("chain endpoint")]
    starts = [c for c in chains if c.startswith("chain service")]
    return "\n".join(["table ip kube-proxy {", f"chain mark-for-masquerade {{ mark set mark or {MARK}; }}", *ends, *starts,
                      "map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { " + ", ".join(elements) + " }; }",
                      "chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }",
                      "chain prerouting { type nat hook prerouting priority -100; jump services; }",
                      "chain output { type nat hook output priority -100; jump services; }",
                      f"chain postrouting {{ type nat hook postrouting priority 100; mark and {MARK} == 0 return; "
                      f"mark set mark xor {MARK}; masquerade fully-random; }}",
                      "chain forward { type filter hook forward priority -110; ct state invalid drop; }", "}", ""])
