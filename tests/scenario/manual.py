#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual and the completion: every option, counter and command that the sources name is in the
page where an administrator looks for it, with its help text; the pages are sound; the shell
completes what the command line takes. The sources are read here as text, on another way than the
pages were made."""

import glob
import os
import re
import subprocess

from smb import check, fail, step

ROOT = os.environ["ROOT"]
BUILD = os.environ["BUILD"]
PAGES = ("objectfs.7", "objectfs.conf.5", "objectfs-cached.8", "objectfsctl.8", "vfs_objectfs.8")
LOCAL = "Programs on the server itself that read the mirror see zeros"


def source(path):
    """A source file; strings that continue on the next line are one, macros' line ends are gone."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        text = re.sub(r"[ \t]*\\\n[ \t]*", " ", file.read())
    return re.sub(r'"\s+"', "", text)


def run(*argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    check(done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}")
    return done.stdout


def rendered(page):
    """A page as its reader sees it, in one line."""
    text = run("mandoc", "-T", "utf8", "-O", "width=900", f"{BUILD}/man/{page}")
    text = re.sub(".\b", "", text)
    return re.sub(r"\s+", " ", text)


def plain(text):
    return re.sub(r"\s+", " ", text).strip()


def sound():
    step("five pages, without a warning, the warning to readers of the mirror first")
    found = sorted(os.path.basename(path) for path in glob.glob(f"{BUILD}/man/*"))
    check(found == sorted(PAGES), f"pages: {found}")
    for page in PAGES:
        run("mandoc", "-T", "lint", "-W", "warning", f"{BUILD}/man/{page}")
        text = rendered(page)
        check(f"DESCRIPTION {LOCAL}" in text, f"{page}: the warning is not its first line")
        check("@" not in text, f"{page}: a table is missing")


def complete():
    step("options, counters, commands, the module's options")
    rows = [("objectfs.conf.5", f"{key} =", text) for key, text in re.findall(
        r'\bO\([A-Z]+, \w+, "([^"]+)",[^"]*(?:"[^"]*",)?[^"]*"([^"]*)"\)',
        source("cached/base/conf_table.h"))]
    rows += [("objectfs-cached.8", name, text) for name, text in re.findall(
        r'\bS\((\w+), \w+, \w+, "([^"]*)"\)', source("cached/base/stats_table.h"))]
    rows += [("objectfsctl.8", plain(f"{name} {args}"), text) for name, args, text in re.findall(
        r'\bC\("([^"]+)",[^"]*"([^"]*)", "([^"]*)"\)', source("cached/admin/command_table.h"))]
    rows += [("vfs_objectfs.8", f"objectfs:{key} =", text) for key, text in re.findall(
        r'\bO\([A-Z]+, \w+, "([^"]+)", (?:"[^"]*"|\w+), "([^"]*)"\)',
        source("vfs_objectfs/ofs_conf_table.h"))]
    times = source("cached/base/stats_table.h")
    rows += [("objectfs-cached.8", f"objectfs_{name}_seconds", text) for name, text in re.findall(
        r'\bF\((\w+), "\w+", "([^"]*)"\)', times)]
    rows += [("objectfs-cached.8", name, text) for name, text in re.findall(
        r'\bH\(\w+, (\w+), "([^"]*)"\)', times)]
    rows += [("objectfsctl.8", name, text) for name, *texts in re.findall(
        r'\bD\(\w+, "([^"]+)", \w+, "[^"]+", "([^"]+)", "([^"]+)"\)',
        source("cached/admin/findings_table.h")) for text in texts]
    pages = {page: rendered(page) for page in PAGES}
    for page in PAGES[1:]:
        count = len([row for row in rows if row[0] == page])
        check(count >= 5, f"{page}: only {count} rows were read from the sources")
        print(f"   {page}: {count}")
    for page, name, text in rows:
        at = pages[page].find(f" {name} ")
        check(at >= 0, f"{page} does not name {name!r}")
        check(text in pages[page], f"{page}: the help of {name!r} is not there: {text!r}")
    counted = len(re.findall(r"\bO\((?!type)", source("cached/base/conf_table.h")))
    check(counted == len([row for row in rows if row[0] == "objectfs.conf.5"]),
          f"{counted} rows of options, not all of them understood here")
    used = set(re.findall(r'lp_parm_\w+\([^;]*"objectfs", "(\w+)"', "".join(
        source(os.path.relpath(path, ROOT)) for path in glob.glob(f"{ROOT}/vfs_objectfs/*.c"))))
    check(not used, f"the module reads options that are not in its table: {used}")


def helps():
    step("what --help names is in the page")
    for program, page in (("objectfsctl", "objectfsctl.8"), ("objectfs-cached", "objectfs-cached.8")):
        text = run(f"{BUILD}/{program}", "--help")
        for option in set(re.findall(r"(?<!\S)\[?(--?[a-zA-Z][a-z-]*)", text)):
            check(re.search(rf"(?<![\w-]){option}(?![\w-])", rendered(page)),
                  f"{page} does not name {option}")


def completions(*words):
    """What bash offers for the last word."""
    script = f"""
        source {BUILD}/completion
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _{words[0].replace("-", "_")}
        printf '%s\\n' "${{COMPREPLY[@]}}"
        """
    return set(run("bash", "-c", script, "bash", *words).split())


def completed():
    step("the shell completes")
    work = os.environ["TMPDIR"]
    os.mkdir(f"{work}/deep")
    commands = set(re.findall(r'\bC\("([^"]+)",', source("cached/admin/command_table.h")))
    offered = completions("objectfsctl", "")
    check(commands < offered, f"commands that are not offered: {commands - offered}")
    for words, wanted in (
            (("objectfsctl", "fl"), {"flush"}),
            (("objectfsctl", "-v", "one", "fl"), {"flush"}),
            (("objectfsctl", "-v", ""), set()),
            (("objectfsctl", "flush", "--"), {"--wait", "--timeout", "--json"}),
            (("objectfsctl", "flush", "--timeout", ""), set()),
            (("objectfsctl", "stat", f"{work}/d"), {f"{work}/deep"}),
            (("objectfsctl", "log-level", "w"), {"warning"}),
            (("objectfsctl", "doctor", ""), {"--smb-conf", "--json"}),
            (("objectfsctl", "doctor", "--smb-conf", f"{work}/d"), {f"{work}/deep"}),
            (("objectfs-cached", "--ch"), {"--check-config"})):
        found = completions(*words)
        check(found == wanted, f"{' '.join(words)}: {found}, not {wanted}")
    for level in ("error", "debug"):
        if level not in completions("objectfsctl", "log-level", ""):
            fail(f"log-level does not offer {level}")


sound()
complete()
helps()
completed()
