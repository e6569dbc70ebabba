# SPDX-License-Identifier: GPL-3.0-or-later
"""What a share must hold after what a client was told: names, bytes, attributes, times, rights, EAs, streams.

A request in flight when its connection ended may have happened or not, each of its parts by itself. What is looked at
and was not known counts as told from then on: nobody may change it by dying.
"""

import dataclasses
import hashlib

import smb2


@dataclasses.dataclass(frozen=True)
class Entry:
    """One name. data: its bytes; None: a directory. about: what is known besides, each field of smb2's manifest; one
    that is not there is not known."""

    data: bytes = None
    about: dict = dataclasses.field(default_factory=dict)

    def size(self):
        return None if self.data is None else len(self.data)

    def knowing(self, **fields):
        return Entry(self.data, {**self.about, **fields})

    def without(self, *fields):
        return Entry(self.data, {field: value for field, value in self.about.items() if field not in fields})

    def written(self, data):
        """Other bytes: Samba sets the time of the write, and with the first one the archive bit."""
        return Entry(data, self.without("write", "attributes").about)

    def overwritten(self):
        """Emptied by an open: as a new one, but for its rights."""
        return Entry(b"", {field: value for field, value in self.about.items() if field in ("owner", "dacl")})


class Model:
    """What the share must hold: {path: Entry}."""

    def __init__(self):
        self.entries = {}
        # what the request in flight may have made of it; None: nothing in flight
        self.maybe = None
        # (path, old, new): the bytes of a write in flight
        self.torn = None
        # the name whose removal is in flight: Samba takes its streams away first, one after the other
        self.going = None
        self.touched = set()

    def children(self, path):
        return [name for name in self.entries if name.startswith(path + "/")]

    def dirs(self):
        return [""] + [path for path, entry in self.entries.items() if entry.data is None]

    def files(self):
        return [path for path, entry in self.entries.items() if entry.data is not None]

    def changed(self, changes):
        """The entries with some replaced ({path: Entry, or None: gone})."""
        after = dict(self.entries)
        for path, entry in changes.items():
            if entry is None:
                after.pop(path, None)
            else:
                after[path] = entry
            self.touched.add(path)
        return after

    def may_be(self, path, field):
        """What a field may have now, as a list; []: anything."""
        states = [entries[path] for entries in (self.entries, self.maybe or {}) if path in entries]
        if any(field not in entry.about for entry in states):
            return []
        return [entry.about[field] for entry in states]

    def differences(self, entries, found, ignore=None):
        """Of names, kinds and sizes, as lines of text. found: as walk(); ignore: a path of whatever size."""
        lines = [f"missing: {path}" for path in entries if path not in found]
        lines += [f"unexpected: {path}" for path in found if path not in entries]
        for path, entry in entries.items():
            if path in found and found[path]["size"] != entry.size() and path != ignore:
                lines.append(f"{path}: size {found[path]['size']}, acknowledged {entry.size()}")
        return lines[:20]

    def differences_about(self, path, found):
        """Of one name, but for its bytes, as lines of text."""
        lines = []
        for field, value in about(found).items():
            wanted = self.may_be(path, field)
            if field == "streams" and path == self.going and any(value.items() <= one.items() for one in wanted):
                continue
            if wanted and value not in wanted:
                lines.append(f"{path}: {field} {value!r}, acknowledged {' or '.join(map(repr, wanted))}")
        return lines

    def settle(self, entries, found, data, killed):
        """Nothing is in flight any more: this is so. found: {path: as smb2 describes it}; data: {path: bytes};
        killed: the client's smbd was. What that had open has, in Samba's locking.tdb, another time of its last write
        than on the disk, until it is opened again."""
        entries = dict(entries)
        for path, fields in found.items():
            entry = entries[path].knowing(**about(fields))
            if killed and path in self.touched:
                entry = entry.without("write")
            entries[path] = Entry(data.get(path, entry.data), entry.about)
        self.entries, self.maybe, self.torn, self.going, self.touched = entries, None, None, None, set()


def about(found):
    """What is compared of what smb2's listing or description says of a name. The time of a directory's last write is
    that of its names; nobody is told of what moves access and change times."""
    fields = ("create", "attributes", "eas", "streams") + (("write",) if found["type"] == "file" else ())
    known = {field: found[field] for field in fields if field in found}
    # a stub without any is told as one by the bits that say so
    known["attributes"] = known["attributes"] or smb2.ATTR_NORMAL
    if "sd" in found:
        known["owner"], dacl = found["sd"].split("D:", 1)
        known["dacl"] = "D:" + dacl
    return known


def walk(client, but=()):
    """{path: {type, size, create, write, attributes}} of all names; but: those of the top that do not count."""
    found, pending = {}, [""]
    while pending:
        path = pending.pop()
        for name, attributes, size, create, _, write, _ in client.list(path):
            child = f"{path}/{name}" if path else name
            if child in but:
                continue
            is_dir = bool(attributes & smb2.ATTR_DIRECTORY)
            found[child] = {"type": "dir" if is_dir else "file", "size": None if is_dir else size, "create": create,
                            "write": write, "attributes": attributes & ~smb2.ATTR_PLACE}
            if is_dir:
                pending.append(child)
    return found


def stream_of(data):
    """As smb2 describes one."""
    return [len(data), hashlib.sha256(data).hexdigest()]
