# SPDX-License-Identifier: BSD-2-Clause
"""Each check of tools/check can fail: a copy of the tree is broken in one place at a time, and must be told off for it."""
import os
import re
import shutil
import stat
import subprocess

MARK = "TO" + "DO"
HOME = "/ho" + "me/someone/rules"

# check, file, what becomes of its text
BREAKS = [
    ("format", "tools/meshctl/flows.c", lambda t: t.replace("\tif (a->word_nr)", "\tif(a->word_nr)")),
    ("rooms", "user/base/str.c", lambda t: t + '#include "config/model.h"\n'),
    ("rooms", "user/config/alias.c", lambda t: t + "#include <bpf/libbpf.h>\n"),
    ("rooms", "bpf/connect.bpf.c", lambda t: t + '#include "nowhere.h"\n'),
    ("memory", "tools/meshctl/input.c", lambda t: t.replace("xrealloc(", "realloc(")),
    ("pure", "user/config/alias.c", lambda t: t + "void alias_log(void)\n{\n\tprintf(0);\n}\n"),
    ("pure", "user/config/alias.c", lambda t: t.replace("#include", "#include <unistd.h>\n#include", 1)),
    ("abi", "include/mesh_abi.h", lambda t: t.replace("_Static_assert(sizeof(struct mesh_row)", "_Static_assert(sizeof(struct mesh_raw)")),
    ("abi", "bpf/maps.bpf.h", lambda t: t.replace("} mesh_counters", "} mesh_counters_of_all")),
    ("length", "tools/meshctl/flows.c", lambda t: t + "/* */\n" * 700),
    ("spdx", "tools/meshctl/flows.c", lambda t: t[t.index("\n") + 1:]),
    ("spdx", "bpf/connect.bpf.c", lambda t: t.replace("GPL-2.0-only OR BSD-2-Clause", "BSD-2-Clause")),
    ("paths", "README.md", lambda t: t + HOME + "\n"),
    ("marks", "tools/meshctl/flows.c", lambda t: t + f"/* {MARK} */\n"),
    ("whitespace", "CHANGELOG.md", lambda t: t + "end \n"),
    ("whitespace", "CHANGELOG.md", lambda t: t + "end"),
    ("shell", "tools/install", lambda t: t + "if\n"),
    ("shell", "tools/install", lambda t: t + "rm -rf $destdir/x\n"),
    ("python", "tests/cli/breaks.py", lambda t: t + "def\n"),
    ("man", "tools/man/meshd.8", lambda t: t.replace(".Sh FILES", ".Shh FILES")),
    ("man_verbs", "tools/man/meshctl.8", lambda t: t.replace("-dry-run", "-no-run")),
    ("man_verbs", "tools/man/meshctl.8", lambda t: re.sub(r"\.Nm\n\.Cm diff\n", "", t)),
    ("man_settings", "tools/man/meshd.8", lambda t: t.replace("-max-closed-flows", "-max-closed")),
    ("man_settings", "tools/deploy/meshd.yaml", lambda t: t.replace("node-name:", "node:")),
    ("man_rules", "tools/man/tulle.5", lambda t: t.replace("sourceSubnet", "sourceNet")),
    ("man_rules", "tools/man/tulle.5", lambda t: t.replace("TCPRoute Ta v1 v1alpha2", "TCPRoute Ta v1alpha2")),
    ("completion", "build/meshctl", lambda t: t + "| sed 's/--state//'\n"),
    ("installs", "tools/install", lambda t: t.replace("put 644 \"$page\"", "true \"$page\"")),
    ("installs", "tools/install", lambda t: t.replace('if [ -e "$destdir/etc/tulle/meshd.yaml" ]', "if false")),
]


def copy(root, to):
    names = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, text=True, check=False)
    if names.returncode:
        shutil.copytree(root, to, ignore=shutil.ignore_patterns("build", ".git", "__pycache__"), symlinks=True)
        return
    for name in filter(None, names.stdout.split("\0")):
        if os.path.isfile(os.path.join(root, name)):
            os.makedirs(os.path.dirname(os.path.join(to, name)), exist_ok=True)
            shutil.copy2(os.path.join(root, name), os.path.join(to, name))


def verdict(tree, name):
    return subprocess.run([os.path.join(tree, "tools/check"), name], capture_output=True, text=True, check=False)


def run(root, build, work):
    """Checks that did not notice, as texts; and the names of those that could not run here."""
    tree = os.path.join(work, "tree")
    copy(root, tree)
    os.makedirs(os.path.join(tree, "build"))
    for program in ("meshctl", "meshd"):
        if os.path.exists(os.path.join(build, program)):
            path = os.path.join(tree, "build", program)
            with open(path, "w", encoding="utf-8") as f:
                f.write(f"#!/bin/sh\n'{build}/{program}' \"$@\"")
            os.chmod(path, stat.S_IRWXU)
    bad, skipped, before = [], set(), {}
    for name, path, change in BREAKS:
        path = os.path.join(tree, path)
        if name not in before:
            before[name] = verdict(tree, name).stdout
        if before[name].startswith("skip"):
            skipped.add(name)
            continue
        with open(path, encoding="utf-8") as f:
            text = f.read()
        broken = change(text)
        with open(path, "w", encoding="utf-8") as f:
            f.write(broken)
        after = verdict(tree, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        if broken == text:
            bad.append(f"{name}: {path} is not as expected, nothing was broken")
        elif after.returncode != 1 or after.stdout == before[name]:
            bad.append(f"{name}: did not notice a broken {path}: {after.stdout}{after.stderr}")
    listed = subprocess.run([os.path.join(tree, "tools/check"), "--list"], capture_output=True, text=True, check=False).stdout.split()
    bad += [f"{name}: nothing here breaks it" for name in listed if name not in before]
    return bad, skipped
