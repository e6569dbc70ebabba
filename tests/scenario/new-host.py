#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""The host is lost, and another one serves the bucket: nobody has rights there before the accounts are
those that the rights name, nobody has another's when they were made in another order, and with the
accounts as they were every right is what it was: in its text, and when it is tried."""

import json
import os
import re
import shutil

from bucket_reader import read_bed
from smb import SmbError, Testbed, check, check_same, skip, step
from smb2 import READ_DATA, WRITE_DATA

TEAM_RID = 2001
NAMES = {1: "objectfs1", 2: "objectfs2", "admin": "objectfsadm"}
# file: rights of (user 1, user 2)
FILES = {
    "mine": ("D:P(A;;0x001f01ff;;;{1})", ("rw", "")),
    "read": ("D:P(A;;0x001f01ff;;;{1})(A;;0x00120089;;;{2})", ("rw", "r")),
    "team": ("D:P(A;;0x00120089;;;{team})", ("", "r")),
    "denied": ("D:P(D;;0x00000001;;;{2})(A;;0x001f01ff;;;{1})(A;;0x001f01ff;;;WD)", ("rw", "w")),
    "all": ("D:P(A;;0x001f01ff;;;WD)", ("rw", "rw")),
}


def net(bed, *argv, **keywords):
    return bed.inside("net", "-s", bed.smb_conf, *argv, **keywords)


def machine_sid(bed):
    return net(bed, "getlocalsid").split()[-1]


def rids(bed):
    """{name: RID} of the accounts there are."""
    text = bed.inside("pdbedit", "-s", bed.smb_conf, "-L", "-v")
    names = re.findall(r"^Unix username:\s+(\S+)", text, re.M)
    sids = re.findall(r"^User SID:\s+(\S+)", text, re.M)
    return {name: int(sid.rsplit("-", 1)[1]) for name, sid in zip(names, sids)}


def make_team(bed):
    """A group with a SID of the machine's, for the user it has on this host."""
    net(bed, "groupmap", "add", f"rid={TEAM_RID}", "ntgroup=team", "unixgroup=objectfs2",
        "type=domain")


def make_files(bed):
    sid, accounts = machine_sid(bed), rids(bed)
    who = {"team": f"{sid}-{TEAM_RID}"}
    with bed.client() as client:
        client.mkdir("dir")
        for name, (sddl, _) in FILES.items():
            for path in (name, f"dir/{name}"):
                client.put(path, path.encode())
                handle = client.create(path)
                client.set_sddl(handle, sddl.replace("{1}", f"{sid}-{accounts[NAMES[1]]}").replace(
                    "{2}", f"{sid}-{accounts[NAMES[2]]}").format(**who))
                client.close(handle)
    with bed.client(user="admin") as client:
        root = client.create("")
        client.set_sddl(root, f"D:(A;;0x001f01ff;;;WD)(A;;0x00120089;;;{sid}-{accounts[NAMES[2]]})")
        client.close(root)
    with bed.client(user=2) as client:
        client.put("second", b"of the second")


def opens(client, path, access):
    try:
        client.close(client.create(path, access))
        return True
    except SmbError as error:
        check(error.status == 0xC0000022, f"{path}: {error}")  # ACCESS_DENIED
        return False


def tried(bed):
    """What each user may do with each file, found out by doing it."""
    found = {}
    for user in (1, 2):
        with bed.client(user=user) as client:
            for path in [*FILES, *(f"dir/{name}" for name in FILES), "second"]:
                found[user, path] = "".join(
                    letter for letter, access in (("r", READ_DATA), ("w", WRITE_DATA))
                    if opens(client, path, access))
    return found


def expect(found):
    for name, (_, rights) in FILES.items():
        for path in (name, f"dir/{name}"):
            for user in (1, 2):
                check(found[user, path] == rights[user - 1],
                      f"user {user} may {found[user, path]!r} {path}, not {rights[user - 1]!r}")


def findings(bed):
    return {item["id"]: item["reason"] for item in bed.ctl_json("health")["components"]
            if item.get("id", "").startswith("account")}


def unknown(bed):
    """Whom doctor does not know."""
    said = json.loads(bed.inside(f"{bed.testbed_build}/objectfsctl", "-c", bed.conf, "--json", "doctor",
                                 "--smb-conf", bed.smb_conf, may_fail=True))
    return {item["reason"] for item in said["findings"] if item["id"] == "accounts-unknown"}


def enters(bed, user):
    try:
        with bed.client(user=user):
            return True
    except SmbError:
        return False


def record(bed):
    """As a reader of the bucket finds it."""
    share = read_bed(bed)
    check(not share.problems, f"the bucket: {share.problems}")
    return share


def other_host(bed, sid):
    step("another host: its users are strangers")
    bed.wipe(new_host=True)
    check(machine_sid(bed) != sid, "the new host has the old one's SID")
    with bed.client() as client:
        check(not opens(client, "mine", READ_DATA) and opens(client, "all", READ_DATA),
              "a stranger's rights")
    found = findings(bed)
    check(list(found) == ["accounts-other"] and f"net setlocalsid {sid}" in found["accounts-other"],
          f"health says {found}")
    check(f"{sid}-1001" in unknown(bed), f"doctor knows all but {unknown(bed)}")
    check("THIS SERVER HAS OTHERS" in bed.ctl("status"), bed.ctl("status"))
    check(record(bed).machine_sid == sid, "the record changed")


def other_order(bed, sid):
    step("the SID alone: accounts that were made in another order do not come in")
    net(bed, "setlocalsid", sid)
    bed.restart("smbd")
    check(rids(bed)[NAMES[2]] == 1002, f"the accounts: {rids(bed)}")
    check(not enters(bed, 2) and not enters(bed, "admin"), "somebody came in with another's RID")
    check(bed.ctl_json("status")["counters"]["accounts_refused"] == 2, "they are not counted")
    check(enters(bed, 1), "who has the RID he had is kept out")
    found = findings(bed)
    check(f"{sid}-1001 was {NAMES[2]} when" in found["account-renamed"], f"health says {found}")
    check(f"{NAMES[1]} was S-1-22-1-" in found["accounts-other"], f"health says {found}")
    check(record(bed).accounts[f"{sid}-1001"] == NAMES[2], "the record changed")


def content(path):
    with open(path, "rb") as file:
        return file.read()


def serving(bed):
    """Nodes that say in the bucket that they serve."""
    client, found = bed.s3(), []
    place = f"{bed.s3_prefix}.objectfs/nodes/"
    for item in client.list_objects_v2(Bucket=bed.s3_bucket, Prefix=place).get("Contents", []):
        body = client.get_object(Bucket=bed.s3_bucket, Key=item["Key"])["Body"].read()
        found += [item["Key"]] if json.loads(body)["serving"] else []
    return found


def recover(bed, *more):
    """What it says; the configuration is to be one that is not there yet."""
    prefix = bed.s3_prefix.rstrip("/")
    return bed.inside(f"{bed.testbed_build}/objectfsctl", "-c", f"{bed.dir}/new.conf", "recover", "--name",
                      "test", "--endpoint", bed.s3_endpoint, "--credentials", f"{bed.dir}/keys",
                      "--smb-conf", bed.smb_conf, "--no-start", "--yes", *more,
                      f"s3://{bed.s3_bucket}/{prefix}", may_fail=True)


def refused(bed):
    step("recover changes nothing while a number is another's, or an account has another one")
    with open(f"{bed.dir}/keys", "w", encoding="ascii") as file:
        file.write(f"[default]\naws_access_key_id = {bed.s3_access_key}\n"
                   f"aws_secret_access_key = {bed.s3_secret_key}\n")
    accounts = rids(bed)
    said = recover(bed)
    check("nothing was changed" in said and "groupmod -g 30001 objectfs1" in said, said)
    remove(bed)
    bed.inside("useradd", "-u", "30002", "somebody")
    said = recover(bed)
    check("nothing was changed" in said and "somebody" in said, said)
    bed.inside("userdel", "somebody")
    net(bed, "setlocalsid", "S-1-5-21-1-2-3")
    said = recover(bed, "--name", "other", "--endpoint", "http://127.0.0.1:1")
    check("nothing was changed" in said and "cannot be read" in said, said)
    check(not os.path.exists(f"{bed.dir}/new.conf") and machine_sid(bed) == "S-1-5-21-1-2-3" and
          not rids(bed) and accounts, "something was changed")


def remove(bed):
    """All accounts that the testbed made, as a machine has none that was just set up."""
    for name in NAMES.values():
        bed.inside("pdbedit", "-s", bed.smb_conf, "-x", "-u", name)
        bed.inside("userdel", name)
        bed.inside("groupdel", name, may_fail=True)


def others_said(bed):
    """What may stand in a bucket: a group of Samba's whose name is no user's, a host with control bytes."""
    client, far = bed.s3(), "ffeeddccbbaa99887766554433221100"

    def change(key, to, edit):
        where = {"Bucket": bed.s3_bucket, "Key": f"{bed.s3_prefix}.objectfs/{key}"}
        text = json.loads(client.get_object(**where)["Body"].read())
        edit(text)
        where["Key"] = f"{bed.s3_prefix}.objectfs/{to}"
        client.put_object(Body=json.dumps(text), **where)

    node = "nodes/" + serving(bed)[0].rsplit("/", 1)[1]
    change(node, f"nodes/{far}", lambda text: text.update(node=far, place=far, host="red \x1b[31m"))
    change("volume", "volume", lambda text: text["accounts"].update(
        {f"{text['machine_sid']}-{TEAM_RID + 1}": "Team & $(id) \x1b[31m"}))


def as_it_was(bed, sid):
    step("recover: the accounts as the bucket names them, their passwords from passdb")
    before = content(bed.smb_conf)
    bed.stop("smbd")
    bed.stop("cached")
    others_said(bed)
    check(len(serving(bed)) > 1, "no two nodes serve")
    bed.s3().put_bucket_versioning(  # Ceph RGW refuses every If-Match then
        Bucket=bed.s3_bucket, VersioningConfiguration={"Status": "Enabled"})
    said = recover(bed, "--passdb", f"{bed.dir}/passdb.tdb")
    check(f"net -s {bed.smb_conf} setlocalsid {sid}" in said and f"map it again, with net groupmap "
          f"add rid={TEAM_RID} ntgroup=team" in said, said)
    check(f"{sid}-{TEAM_RID + 1} is the group Team & $(id) \\x1b[31m: map" in said and "\x1b" not in said, said)
    check("red \\x1b[31m serves it no more" in said and not serving(bed), f"{serving(bed)} serve: {said}")
    bed.s3().put_bucket_versioning(Bucket=bed.s3_bucket, VersioningConfiguration={"Status": "Suspended"})
    check(machine_sid(bed) == sid, "the SID")
    check(rids(bed) == {NAMES[1]: 1000, NAMES[2]: 1001, NAMES["admin"]: 1002}, f"{rids(bed)}")
    check(content(bed.smb_conf) == before, "a share that was there was changed")
    bed.inside(f"{bed.testbed_build}/objectfs-cached", "-c", f"{bed.dir}/new.conf", "--check-config")
    written = content(f"{bed.dir}/new.conf")
    said = recover(bed)
    check("useradd" not in said and "setlocalsid" not in said and "write" not in said, said)
    check(content(f"{bed.dir}/new.conf") == written, "a second run wrote the configuration again")
    make_team(bed)
    bed.start("cached")
    bed.start("smbd")
    check(all(enters(bed, user) for user in NAMES), "they do not come in")
    check(not findings(bed), f"health says {findings(bed)}")


def main():
    with Testbed(store="rgw") as bed:
        if not bed.env["INSIDE"]:
            skip("users are the machine's own here: no mount namespaces")
        sid = machine_sid(bed)
        make_team(bed)
        step("rights of every kind")
        make_files(bed)
        before = tried(bed)
        expect(before)
        check(not unknown(bed), f"doctor does not know {unknown(bed)}")
        manifest = bed.manifest(user="admin")
        bed.flush()
        check(record(bed).machine_sid == sid, "the SID is not in the bucket")
        shutil.copy(f"{bed.dir}/samba/private/passdb.tdb", bed.dir)
        other_host(bed, sid)
        other_order(bed, sid)
        refused(bed)
        as_it_was(bed, sid)
        check_same(manifest, bed.manifest(user="admin"), "on the new host")
        check(tried(bed) == before, "what users may do is not what it was")


main()
