#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 180
"""An object that another program puts into a directory gets the rights of a file that a client makes
there: what the directory hands down, computed as smbd computes it, for files and for directories that
exist only as prefixes. Where nothing is handed down it is as closed as its directory.
"""

import os

from dirstore import put_object
from smb import SmbError, Testbed, check, step, wait_until

ALL, READ = "0x001f01ff", "0x001200a9"

# {me}: the directory's owner. Each hands something down to files and to directories, and these hand
# it down again.
HANDED_DOWN = {
    "both": "D:(A;OICI;{all};;;{me})(A;OICI;{read};;;WD)",
    "protected": "D:P(A;OICI;{all};;;{me})(A;;{read};;;WD)",
    "auto inherited": "D:ARAI(A;OICI;{all};;;{me})(A;OICIID;{read};;;BU)",
    "object and container": "D:(A;;{read};;;BU)(A;OI;{read};;;WD)(A;CI;{all};;;{me})",
    "inherit only": "D:(A;OICIIO;{all};;;{me})(A;OICIIO;{read};;;WD)(A;OIIO;{all};;;BU)(A;;{all};;;{me})",
    "creators": "D:(A;OICIIO;{all};;;CO)(A;OICIIO;{read};;;CG)(A;OICI;{all};;;{me})",
    "creators, inherited": "D:ARAI(A;OICIIO;{all};;;CO)(A;CI;{read};;;CG)(A;OICI;{all};;;{me})",
    "creators of files": "D:(A;OIIO;{all};;;CO)(A;OI;{read};;;CG)(A;OICI;{all};;;{me})",
    "deny": "D:(D;OICI;0x00000020;;;WD)(A;OICI;{all};;;{me})(A;OICI;{read};;;WD)",
    "twice": "D:(A;OI;{all};;;CO)(A;OICI;{all};;;{me})(A;CI;{all};;;{me})(A;OI;{read};;;WD)",
}
HANDED_DOWN_ONCE = {
    "no propagate": "D:(A;;{all};;;{me})(A;OICINP;{read};;;WD)(A;CINP;{all};;;{me})(A;OINP;{read};;;BG)",
    "creators, no propagate": "D:(A;;{all};;;{me})(A;OICINPIO;{all};;;CO)(A;CINPIO;{read};;;CG)(A;OI;{read};;;BU)",
}


def set_acl(client, path, sddl, me):
    handle = client.create(path)
    client.set_sddl(handle, sddl.format(me=me, all=ALL, read=READ))
    client.close(handle)


def make_base(bed):
    """A directory below which every new thing has an ACL of its own; the SID of its owner."""
    with bed.client() as client:
        client.mkdir("base")
        me = client.manifest("base", content=False)[""]["sd"].split("O:")[1].split("G:")[0]
        set_acl(client, "base", "D:(A;OICI;{all};;;{me})", me)
    return me


def sds(bed, path):
    with bed.client(user="admin") as admin:  # whom no ACL keeps out
        return {name: entry["sd"] for name, entry in admin.manifest(path, content=False).items()}


def same(found, pairs, what):
    for foreign, ours in pairs:
        check(found[foreign] == found[ours],
              f"{what}: {foreign} has\n  {found[foreign]}, {ours} has\n  {found[ours]}")


def handed_down(bed, me):
    cases = [(*case, True) for case in HANDED_DOWN.items()]
    cases += [(*case, False) for case in HANDED_DOWN_ONCE.items()]
    for number, (what, sddl, on) in enumerate(cases):
        step(what)
        path = f"base/{number}"
        made = ["tree", "tree/below"] if on else ["tree"]
        with bed.client() as client:
            client.mkdir(path)
            set_acl(client, path, sddl, me)
            client.put(f"{path}/made")
            for directory in made:
                client.mkdir(f"{path}/{directory}")
            if on:
                client.put(f"{path}/tree/below/file")
        bed.flush()
        for key in ("put", "prefix/below/file"):
            put_object(bed, f"{path}/{key}", b"by another program")
        bed.ctl("refresh", path)
        found = sds(bed, path)
        pairs = [("put", "made"), ("prefix", "tree")]
        if on:
            pairs += [("prefix/below", "tree/below"), ("prefix/below/file", "tree/below/file")]
        same(found, pairs, what)


def no_acl(bed):
    step("a directory without an ACL")
    with bed.client() as client:
        client.mkdir("plain")
        client.put("plain/made")
        client.mkdir("plain/tree")
        bed.flush()
        put_object(bed, "plain/put", b"")
        put_object(bed, "plain/prefix/file", b"")
        bed.ctl("refresh", "plain")
        same(sds(bed, "plain"), (("put", "made"), ("prefix", "tree"), ("prefix/file", "made")), "")


def refused(bed, path):
    with bed.client(user=2) as other:
        try:
            other.get(path)
        except SmbError as error:
            check(error.name == "NT_STATUS_ACCESS_DENIED", f"{path}: {error.name}")
            return
    check(False, f"{path} can be read by another user")


def closed(bed, me):
    step("a closed directory that hands nothing down")
    with bed.client() as client:
        client.mkdir("base/closed")
        set_acl(client, "base/closed", "D:P(A;;{all};;;{me})", me)
        bed.flush()
        put_object(bed, "base/closed/put", b"secret")
        put_object(bed, "base/closed/prefix/file", b"secret")
        bed.ctl("refresh", "base/closed")
        check(client.get("base/closed/put") == b"secret", "its owner may not read what is in it")
        check(client.get("base/closed/prefix/file") == b"secret", "nor what is below")
    found = sds(bed, "base/closed")
    for name in ("put", "prefix", "prefix/file"):
        # from 4.18 on Samba writes it as a word
        check(found[name].split("D:")[1].replace("FA", ALL) == f"(A;;{ALL};;;{me})",
              f"{name}: {found[name]}")
    refused(bed, "base/closed/put")
    refused(bed, "base/closed/prefix/file")


def of_its_own(bed, me):
    step("rights that only the log has: set on a foreign object, renamed; of ours, put over by a tool")
    own = "D:P(A;;{all};;;{me})"
    for key in ("from", "again", "tree/below/file", "swapped"):
        put_object(bed, f"base/own/{key}", b"secret")
    bed.ctl("refresh", "base")
    bed.ctl("refresh", "base/own")
    with bed.client() as client:
        for name in ("from", "again", "tree/below/file"):
            set_acl(client, f"base/own/{name}", own, me)
        client.put("base/own/ours", b"secret")
        set_acl(client, "base/own/ours", own, me)
        bed.flush()
        client.rename("base/own/from", "base/own/to")
        client.rename("base/own/again", "base/own/once")
        client.rename("base/own/tree", "base/own/moved")
        bed.flush()
        client.rename("base/own/once", "base/own/twice")
        client.rename("base/own/swapped", "base/own/from")  # a key whose rights were another's
        set_acl(client, "base/own/from", "D:P(A;;{all};;;{me})(A;;{read};;;WD)", me)
        put_object(bed, "base/own/ours", b"put over")
        bed.flush()
        bed.ctl("refresh", "base/own")
        bed.flush()
        check(client.get("base/own/ours") == b"put over", "what was put over it")
        set_acl(client, "base/own/twice", "D:P(A;;{all};;;{me})(A;;{read};;;BU)", me)
        bed.flush()
    for name in ("to", "ours", "moved/below/file"):
        refused(bed, f"base/own/{name}")


def after_the_loss_of_the_disk(bed):
    step("after the loss of the disk")
    before = sds(bed, "base")
    bed.flush()
    bed.wipe()
    after = sds(bed, "base")
    for name in ("to", "ours", "moved/below/file"):
        refused(bed, f"base/own/{name}")
    for name, sd in before.items():
        check(after.get(name) == sd, f"{name}: {sd} became {after.get(name)}")


def damaged(bed):
    step("a directory whose ACL cannot be read")
    path = os.path.join(bed.mirror, "base", "closed")
    name = next(name for name in os.listxattr(path) if name.endswith(".NTACL"))
    good = os.getxattr(path, name)
    os.setxattr(path, name, good[:-5])
    put_object(bed, "base/closed/later", b"secret")
    bed.ctl("refresh", "base/closed", may_fail=True)
    check(not os.path.exists(f"{path}/later"), "the object is shown, with rights made up")
    check("later cannot be made in the mirror" in bed.log() and "NT ACL of its directory" in bed.log(),
          "the log does not say why")
    os.setxattr(path, name, good)
    bed.ctl("refresh", "base/closed")
    wait_until(lambda: os.path.exists(f"{path}/later"), 10, "it is shown when the ACL is back")
    refused(bed, "base/closed/later")


def main():
    with Testbed(set=["settle time=100ms"]) as bed:
        me = make_base(bed)
        handed_down(bed, me)
        no_acl(bed)
        closed(bed, me)
        of_its_own(bed, me)
        after_the_loss_of_the_disk(bed)
        damaged(bed)
    step("a share that does not ignore system ACLs")
    with Testbed(set=["settle time=100ms"], smb=["acl_xattr:ignore system acls=no"]) as bed:
        me = make_base(bed)
        handed_down(bed, me)
        closed(bed, me)


if __name__ == "__main__":
    main()
