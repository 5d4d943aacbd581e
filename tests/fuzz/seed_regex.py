#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Seeds of fuzz_regex: expressions, each with a text. usage: seed_regex.py DIR"""
import os
import sys

SEEDS = [
    ("/api/v[0-9]+/.*", "/api/v1/x"), ("(a|ab)(c|bcd)(d*)", "abcd"), ("(?:ab)*", "abab"), ("a*?b", "aab"), ("a{2,3}", "aa"),
    ("(^a|b$)+", "ab"), ("\\Aa\\z", "a"), ("a\\b.*", "a-b"), ("\\d+\\w\\S", "12a-"), ("[[:alpha:]_][[:^digit:]]", "a_"),
    ("[]a-]+", "]a"), ("[\\x41-\\x{43}]", "A"), ("\\Qa.b*\\E.", "a.b*c"), ("(?i)ab(?-i:c)", "ABc"), ("(?P<n>a)(?<m>b)", "ab"),
    ("(?sm)^.$", "\n"), ("((a*)*)*", "aaa"), ("(|a)+", "a"), ("(?U)a+?", "a"), ("\\101\\/", "A/"),
]


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for n, (pattern, text) in enumerate(SEEDS):
        with open(os.path.join(folder, f"{n:02}"), "wb") as f:
            f.write(pattern.encode() + b"\0" + text.encode())


main()
