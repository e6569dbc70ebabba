# SPDX-License-Identifier: GPL-3.0-or-later
"""A small SMB 2.1 client for tests: what smbclient cannot say exactly, and fast.

Times in full resolution, EAs, streams, security descriptors, and many requests in flight on one
connection. [MS-SMB2] for the frames, [MS-FSCC] for the information classes; authentication by
Samba's gensec (python3-samba). One thread per Client.
"""

import hashlib
import os
import socket
import struct

from samba import NTSTATUSError, credentials, gensec, ntstatus, param
from samba.dcerpc import security
from samba.ndr import ndr_pack, ndr_unpack

NEGOTIATE, SESSION_SETUP, LOGOFF, TREE_CONNECT, TREE_DISCONNECT, CREATE, CLOSE, FLUSH, READ, \
    WRITE, LOCK, IOCTL, CANCEL, ECHO, QUERY_DIRECTORY, CHANGE_NOTIFY, QUERY_INFO, SET_INFO, \
    OPLOCK_BREAK = range(19)

OK = 0
PENDING = 0x00000103
NOTIFY_ENUM_DIR = 0x0000010C
BUFFER_OVERFLOW = 0x80000005
NO_MORE_FILES = 0x80000006
NO_EAS_ON_FILE = 0xC0000052
END_OF_FILE = 0xC0000011
MORE_PROCESSING = 0xC0000016

FILE_SUPERSEDE, FILE_OPEN, FILE_CREATE, FILE_OPEN_IF, FILE_OVERWRITE, FILE_OVERWRITE_IF = range(6)
DIRECTORY_FILE, NON_DIRECTORY_FILE, DELETE_ON_CLOSE, OPEN_REPARSE = 0x1, 0x40, 0x1000, 0x200000
READ_DATA, WRITE_DATA, APPEND_DATA, READ_EA, WRITE_EA, READ_ATTRIBUTES, WRITE_ATTRIBUTES = \
    0x1, 0x2, 0x4, 0x8, 0x10, 0x80, 0x100
DELETE, READ_CONTROL, WRITE_DAC, WRITE_OWNER, MAXIMUM_ALLOWED = \
    0x10000, 0x20000, 0x40000, 0x80000, 0x2000000
GENERIC_READ, GENERIC_WRITE = 0x80000000, 0x40000000
SHARE_ALL = 7

ATTR_READONLY, ATTR_HIDDEN, ATTR_SYSTEM, ATTR_DIRECTORY, ATTR_ARCHIVE, ATTR_NORMAL = \
    0x1, 0x2, 0x4, 0x10, 0x20, 0x80
ATTR_OFFLINE, ATTR_RECALL_ON_OPEN, ATTR_RECALL_ON_DATA_ACCESS = 0x1000, 0x40000, 0x400000
# where the bytes are, not what the file is
ATTR_PLACE = ATTR_OFFLINE | ATTR_RECALL_ON_OPEN | ATTR_RECALL_ON_DATA_ACCESS

INFO_FILE, INFO_FS, INFO_SECURITY = 1, 2, 3
ADDED, REMOVED, MODIFIED = 1, 2, 3  # what happened to a name in a watched directory
OWNER, GROUP, DACL, SACL = 1, 2, 4, 8

CHUNK = 1 << 20
EPOCH = 11644473600  # 1601 to 1970


def nt_time(unix_seconds):
    """FILETIME (100 ns since 1601) of a Unix time in seconds; exact for an int or a Fraction."""
    return int((unix_seconds + EPOCH) * 10000000)


def unix_time(filetime):
    return filetime / 10000000 - EPOCH


_NAMES = {}


def status_name(status):
    """NT_STATUS_... of a number."""
    if not _NAMES:
        for name in dir(ntstatus):
            value = getattr(ntstatus, name)
            if name.startswith("NT_STATUS_") and isinstance(value, int):
                _NAMES.setdefault(value & 0xFFFFFFFF, name)
    return _NAMES.get(status, f"0x{status:08x}")


class SmbError(Exception):
    """An NT status other than success."""

    def __init__(self, status, what):
        super().__init__(f"{what}: {status_name(status)}")
        self.status = status
        self.name = status_name(status)


class Client:
    """One connection, one session, one tree."""

    def __init__(self, host, port, user, password, share, timeout_s=60, guid=None):
        self.sock = socket.create_connection((host, port), timeout=timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.next_id = 0
        self.credits = 1
        self.session = 0
        self.tree = 0
        self.answers = {}
        self.waiting = set()
        self.guid = guid or os.urandom(16)
        self.breaks = []  # oplock and lease breaks that arrived
        self._negotiate()
        self._authenticate(host, user, password)
        try:
            self.connect_tree(host, share)
        except SmbError:
            self.sock.close()
            raise

    def connect_tree(self, host, share):
        """Work in another share of the server from now on; the one before stays connected."""
        path = f"\\\\{host}\\{share}".encode("utf-16-le")
        body = struct.pack("<HHHH", 9, 0, 64 + 8, len(path)) + path
        status, _, tree, _ = self.call(TREE_CONNECT, body, raw=True)
        if status != OK:
            raise SmbError(status, f"tree connect {share}")
        self.tree = tree

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.disconnect()

    def disconnect(self):
        try:
            if self.session:
                self.call(LOGOFF, struct.pack("<HH", 4, 0))
        except (OSError, SmbError):
            pass
        self.sock.close()

    # --- frames ---------------------------------------------------------------------------
    def send(self, command, body, charge=1):
        """Put a request on the wire; its message id. Waits for credits by reading answers."""
        while self.credits < charge:
            self._receive()
        self.credits -= charge
        message = self.next_id
        self.next_id += charge
        head = struct.pack("<4sHHIHHIIQIIQ16s", b"\xfeSMB", 64, charge, 0, command, 128 + charge,
                           0, 0, message, 0xFEFF, self.tree, self.session, bytes(16))
        self.waiting.add(message)
        self.sock.sendall(struct.pack(">I", len(head) + len(body)) + head + body)
        return message

    def _read_exactly(self, size):
        while len(self.buffer) < size:
            data = self.sock.recv(1 << 18)
            if not data:
                raise ConnectionError("the server closed the connection")
            self.buffer += data
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def _receive(self):
        size = struct.unpack(">I", self._read_exactly(4))[0]
        frame = self._read_exactly(size)
        while frame:
            (_, _, _, status, command, granted, flags, following, message, _, tree, session,
             _) = struct.unpack_from("<4sHHIHHIIQIIQ16s", frame)
            self.credits += granted
            body = frame[64:following] if following else frame[64:]
            if message == 0xFFFFFFFFFFFFFFFF:
                self.breaks.append(body)
            elif not (status == PENDING and flags & 2):
                self.answers[message] = (status, body, tree, session, command)
            frame = frame[following:] if following else b""

    def wait(self, message):
        """(status, body, tree, session) of one answer."""
        while message not in self.answers:
            self._receive()
        self.waiting.discard(message)
        return self.answers.pop(message)[:4]

    def call(self, command, body, charge=1, raw=False):
        status, body, tree, session = self.wait(self.send(command, body, charge))
        if raw:
            return status, body, tree, session
        return status, body

    def _negotiate(self):
        # a GUID of its own: smbd serves connections of one GUID in one process
        body = struct.pack("<HHHHI16sQH", 36, 1, 1, 0, 0, self.guid, 0, 0x0210)
        status, _ = self.call(NEGOTIATE, body)
        if status != OK:
            raise SmbError(status, "negotiate")

    def _authenticate(self, host, user, password):
        settings = {"target_hostname": host, "lp_ctx": param.LoadParm()}
        creds = credentials.Credentials()
        creds.guess(settings["lp_ctx"])
        creds.set_kerberos_state(credentials.DONT_USE_KERBEROS)
        domain, _, name = user.rpartition("\\")
        creds.set_username(name)
        creds.set_domain(domain)
        creds.set_password(password)
        mechanism = gensec.Security.start_client(settings)
        mechanism.set_credentials(creds)
        mechanism.start_mech_by_name("spnego")
        token = b""
        while True:
            try:
                _, token = mechanism.update(token)
            except NTSTATUSError as error:
                raise SmbError(error.args[0] & 0xFFFFFFFF, f"authentication of {user}") from None
            body = struct.pack("<HBBIIHHQ", 25, 0, 1, 0, 0, 64 + 24, len(token), 0) + token
            status, answer, _, self.session = self.call(SESSION_SETUP, body, raw=True)
            if status not in (OK, MORE_PROCESSING):
                self.sock.close()
                raise SmbError(status, f"session of {user}")
            offset, length = struct.unpack_from("<HH", answer, 4)
            token = answer[offset - 64:offset - 64 + length]
            if status == OK:
                return

    # --- files --------------------------------------------------------------------------------
    def send_create(self, path, access=MAXIMUM_ALLOWED, disposition=FILE_OPEN, options=0,
                    attributes=0, share=SHARE_ALL, oplock=0, contexts=()):
        """contexts: [(name of four bytes, data)], each [MS-SMB2] 2.2.13.2."""
        name = path.replace("/", "\\").encode("utf-16-le")
        packed = b""
        for number, (tag, data) in enumerate(contexts):
            data += bytes(-len(data) % 8)
            packed += struct.pack("<IHHHHI4s4x", 0 if number + 1 == len(contexts)
                                  else 24 + len(data), 16, 4, 0, 24, len(data), tag) + data
        place = (name or b"\0\0") + bytes(-len(name) % 8 if contexts else 0)
        body = struct.pack("<HBBIQQIIIIIHHII", 57, 0, oplock, 2, 0, 0, access, attributes, share,
                           disposition, options, 64 + 56, len(name),
                           64 + 56 + len(place) if contexts else 0, len(packed))
        return self.send(CREATE, body + place + packed)

    def end_create(self, message, path=""):
        status, body, _, _ = self.wait(message)
        if status != OK:
            raise SmbError(status, f"open {path!r}")
        return body[64:80]

    def create(self, path, *arguments, **keywords):
        """File id of an opened file."""
        return self.end_create(self.send_create(path, *arguments, **keywords), path)

    def create_durable(self, path, key, access=MAXIMUM_ALLOWED):
        """Opened with a lease for reading and keeping (key: 16 bytes): it outlives the connection."""
        message = self.send_create(path, access, oplock=0xFF, contexts=[
            (b"DHnQ", bytes(16)), (b"RqLs", struct.pack("<16sIIQ", key, 3, 0, 0))])
        status, body, _, _ = self.wait(message)
        if status != OK:
            raise SmbError(status, f"open {path!r}")
        if b"DHnQ" not in body[88:]:
            raise SmbError(status, f"open {path!r}: the handle is not durable")
        return body[64:80]

    def create_leased(self, path, key, state=3, access=READ_DATA | READ_ATTRIBUTES):
        """With a lease (key: 16 bytes; state: 1 read, 2 keep, 4 write), which must be granted."""
        message = self.send_create(path, access, oplock=0xFF, contexts=[
            (b"RqLs", struct.pack("<16sIIQ", key, state, 0, 0))])
        status, body, _, _ = self.wait(message)
        if status != OK:
            raise SmbError(status, f"open {path!r}")
        at = body.find(b"RqLs")
        granted = struct.unpack_from("<I", body, at + 8 + 16)[0] if at >= 0 else 0
        if granted != state:
            raise SmbError(status, f"open {path!r}: the lease is {granted}")
        return body[64:80]

    def echo(self):
        """What the server has said before is in `breaks` afterwards."""
        self.call(ECHO, struct.pack("<HH", 4, 0))

    def lease_breaks(self):
        """{key: state that is left} of the leases broken so far."""
        self.echo()
        return {body[8:24]: struct.unpack_from("<I", body, 28)[0] for body in self.breaks
                if struct.unpack_from("<H", body)[0] == 44}

    def send_reconnect(self, path, key, file):
        """The durable handle of a client (the same guid) whose connection has broken; end_create."""
        return self.send_create(path, MAXIMUM_ALLOWED, oplock=0xFF, contexts=[
            (b"DHnC", file), (b"RqLs", struct.pack("<16sIIQ", key, 3, 0, 0))])

    def send_close(self, file):
        return self.send(CLOSE, struct.pack("<HHI", 24, 0, 0) + file)

    def close(self, file):
        status, _, _, _ = self.wait(self.send_close(file))
        if status != OK:
            raise SmbError(status, "close")

    def send_read(self, file, offset, length):
        body = struct.pack("<HBBIQ16sIIIHH", 49, 0, 0, length, offset, file, 0, 0, 0, 0, 0) + b"\0"
        return self.send(READ, body, max(1, (length + 65535) // 65536))

    def end_read(self, message):
        status, body, _, _ = self.wait(message)
        if status == END_OF_FILE:
            return b""
        if status != OK:
            raise SmbError(status, "read")
        offset, _, length = struct.unpack_from("<BBI", body, 2)
        return body[offset - 64:offset - 64 + length]

    def read(self, file, offset, length):
        return self.end_read(self.send_read(file, offset, length))

    def send_write(self, file, offset, data):
        body = struct.pack("<HHIQ16sIIHHI", 49, 64 + 48, len(data), offset, file, 0, 0, 0, 0, 0)
        return self.send(WRITE, body + data, max(1, (len(data) + 65535) // 65536))

    def end_write(self, message):
        status, body, _, _ = self.wait(message)
        if status != OK:
            raise SmbError(status, "write")
        return struct.unpack_from("<I", body, 4)[0]

    def write(self, file, offset, data):
        """All of data, in pieces of at most 1 MiB, several in flight."""
        sent = []
        for start in range(0, len(data), CHUNK):
            sent.append(self.send_write(file, offset + start, data[start:start + CHUNK]))
        for message in sent:
            self.end_write(message)

    def flush(self, file):
        status, _ = self.call(FLUSH, struct.pack("<HHI", 24, 0, 0) + file)
        if status != OK:
            raise SmbError(status, "flush")

    def send_query(self, file, kind, number, additional=0, size=65536, data=b""):
        body = struct.pack("<HBBIHHIII16s", 41, kind, number, size, 64 + 40 if data else 0, 0,
                           len(data), additional, 0, file)
        return self.send(QUERY_INFO, body + (data or b"\0"), max(1, (size + 65535) // 65536))

    def end_query(self, message, empty=()):
        status, body, _, _ = self.wait(message)
        if status in empty:
            return b""
        if status not in (OK, BUFFER_OVERFLOW):
            raise SmbError(status, "query")
        offset, length = struct.unpack_from("<HI", body, 2)
        return body[offset - 64:offset - 64 + length]

    def query(self, file, kind, number, additional=0, size=65536):
        return self.end_query(self.send_query(file, kind, number, additional, size))

    def set(self, file, kind, number, data, additional=0):
        body = struct.pack("<HBBIHHI16s", 33, kind, number, len(data), 64 + 32, 0, additional, file)
        status, _ = self.call(SET_INFO, body + data, max(1, (len(data) + 65535) // 65536))
        if status != OK:
            raise SmbError(status, f"set information {kind}/{number}")

    def list(self, path, pattern="*"):
        """[(name, attributes, size, create, access, write, change)] of a directory, no dots."""
        file = self.create(path, READ_DATA | READ_ATTRIBUTES, options=DIRECTORY_FILE)
        found = []
        try:
            mask = pattern.encode("utf-16-le")
            while True:
                body = struct.pack("<HBBI16sHHI", 33, 37, 0, 0, file, 64 + 32, len(mask), CHUNK)
                status, answer = self.call(QUERY_DIRECTORY, body + mask, CHUNK // 65536)
                if status == NO_MORE_FILES:
                    return found
                if status != OK:
                    raise SmbError(status, f"list {path!r}")
                offset, length = struct.unpack_from("<HI", answer, 2)
                data = answer[offset - 64:offset - 64 + length]
                at = 0
                while True:
                    (following, _, created, accessed, written, changed, size, _, attributes,
                     name_length) = struct.unpack_from("<IIQQQQQQII", data, at)
                    name = data[at + 104:at + 104 + name_length].decode("utf-16-le",
                                                                        "surrogatepass")
                    if name not in (".", ".."):
                        found.append((name, attributes, size, created, accessed, written, changed))
                    if not following:
                        break
                    at += following
        finally:
            self.close(file)

    # --- what others do ------------------------------------------------------------------------
    def send_notify(self, directory, recursive=True, size=65536, what=0xFFF):
        """Ask for the next changes in a directory (file id)."""
        return self.send(CHANGE_NOTIFY, struct.pack("<HHI16sII", 32, int(recursive), size, directory,
                                                    what, 0), max(1, (size + 65535) // 65536))

    def end_notify(self, message):
        """[(action, name)]; None: too much has changed, look again."""
        status, body, _, _ = self.wait(message)
        if status == NOTIFY_ENUM_DIR:
            return None
        if status != OK:
            raise SmbError(status, "notify")
        offset, length = struct.unpack_from("<HI", body, 2)
        data = body[offset - 64:offset - 64 + length]
        found = []
        at = 0
        while True:
            following, action, name_length = struct.unpack_from("<III", data, at)
            name = data[at + 12:at + 12 + name_length].decode("utf-16-le", "surrogatepass")
            found.append((action, name.replace("\\", "/")))
            if not following:
                return found
            at += following

    # --- what a file consists of ---------------------------------------------------------------
    def put(self, path, data=b"", sddl=None, eas=None, streams=None, attributes=None, times=None,
            directory=False):
        """Make a file (or directory) with everything it can have. times: dictionary of FILETIMEs
        create, access, write, change. The order keeps the times and a read-only bit."""
        file = self.create(
            path, MAXIMUM_ALLOWED, FILE_OPEN_IF if directory else FILE_OVERWRITE_IF,
            DIRECTORY_FILE if directory else NON_DIRECTORY_FILE,
            ATTR_DIRECTORY if directory else ATTR_ARCHIVE)
        try:
            if data:
                self.write(file, 0, data)
            for name, content in (streams or {}).items():
                stream = self.create(f"{path}:{name}", MAXIMUM_ALLOWED, FILE_OVERWRITE_IF)
                try:
                    self.write(stream, 0, content)
                finally:
                    self.close(stream)
            if eas:
                self.set_eas(file, eas)
            if sddl:
                self.set_sddl(file, sddl)
            if attributes is not None or times is not None:
                self.set_basic(file, attributes, times)
        finally:
            self.close(file)

    def get(self, path):
        """All bytes of a file or stream."""
        file = self.create(path, READ_DATA | READ_ATTRIBUTES)
        try:
            size = struct.unpack_from("<Q", self.query(file, INFO_FILE, 5), 8)[0]
            parts = []
            sent = [self.send_read(file, offset, min(CHUNK, size - offset))
                    for offset in range(0, size, CHUNK)]
            for message in sent:
                parts.append(self.end_read(message))
            return b"".join(parts)
        finally:
            self.close(file)

    def set_basic(self, file, attributes=None, times=None):
        times = times or {}
        self.set(file, INFO_FILE, 4, struct.pack(
            "<QQQQII", *(times.get(name, 0) for name in ("create", "access", "write", "change")),
            attributes or 0, 0))

    def set_size(self, file, size):
        self.set(file, INFO_FILE, 20, struct.pack("<Q", size))

    def fsctl(self, file, code):
        """One that takes nothing and answers nothing."""
        body = struct.pack("<HHI16sIIIIIIII", 57, 0, code, file, 0, 0, 0, 0, 0, 0, 1, 0) + b"\0"
        status, _ = self.call(IOCTL, body)
        if status != OK:
            raise SmbError(status, f"fsctl {code:x}")

    def set_eas(self, file, eas):
        data = b""
        items = list(eas.items())
        for number, (name, value) in enumerate(items):
            entry = struct.pack("<BBH", 0, len(name.encode()), len(value)) + name.encode() \
                + b"\0" + value
            size = 4 + len(entry)
            padding = -size % 4
            last = number == len(items) - 1
            data += struct.pack("<I", 0 if last else size + padding) + entry
            if not last:
                data += bytes(padding)
        self.set(file, INFO_FILE, 15, data)

    def sddl(self, file):
        return _parse_sd(self.query(file, INFO_SECURITY, 0, OWNER | GROUP | DACL))

    def set_sddl(self, file, sddl):
        descriptor = security.descriptor.from_sddl(
            sddl, security.dom_sid("S-1-5-21-1-2-3"))
        what = 0
        if descriptor.owner_sid is not None:
            what |= OWNER
        if descriptor.group_sid is not None:
            what |= GROUP
        if "D:" in sddl:
            what |= DACL
        self.set(file, INFO_SECURITY, 0, ndr_pack(descriptor), what)

    def rename(self, path, target, replace=False):
        file = self.create(path, DELETE | READ_ATTRIBUTES)
        try:
            name = target.replace("/", "\\").encode("utf-16-le")
            self.set(file, INFO_FILE, 10, struct.pack("<B7xQI", replace, 0, len(name)) + name)
        finally:
            self.close(file)

    def unlink(self, path):
        self.close(self.create(path, DELETE, options=DELETE_ON_CLOSE))

    def rmdir(self, path):
        """By a disposition, which is refused at once where delete-on-close would say nothing."""
        file = self.create(path, DELETE, options=DIRECTORY_FILE)
        try:
            self.set(file, INFO_FILE, 13, b"\1")
        finally:
            self.close(file)

    def mkdir(self, path):
        self.close(self.create(path, MAXIMUM_ALLOWED, FILE_CREATE, DIRECTORY_FILE))

    # --- manifest -------------------------------------------------------------------------------
    def manifest(self, path="", content=True, batch=64):
        """Everything a client can see below path: {relative path: {field: value}}.

        Fields: type, size, sha256, create, access, write, change, attributes (without the bits that
        say where the bytes are), offline, sd (SDDL), eas {name: hex}, streams {name: [size,
        sha256]}; "" is the directory itself."""
        result = {}
        pending = [("", True, 0)]
        while pending:
            now, pending = pending[:batch], pending[batch:]
            for relative, entry in self.describe(path, now, content):
                result[relative] = entry
                if entry["type"] != "dir":
                    continue
                for name, attributes, size, *_ in self.list(_join(path, relative)):
                    pending.append((_join(relative, name), bool(attributes & ATTR_DIRECTORY), size))
        return result

    def describe(self, base, entries, content=True):
        """As in manifest(), of these alone: (path below base, whether a directory, size); in pairs."""
        opens = []
        for relative, is_dir, _ in entries:
            access = READ_ATTRIBUTES | READ_EA | READ_CONTROL
            if not is_dir and content:
                access |= READ_DATA
            opens.append(self.send_create(_join(base, relative), access))
        files = [self.end_create(message, entry[0]) for message, entry in zip(opens, entries)]
        queries = []
        for file, (_, is_dir, size) in zip(files, entries):
            queries.append((
                self.send_query(file, INFO_FILE, 4, size=40),
                self.send_query(file, INFO_FILE, 5, size=24),
                self.send_query(file, INFO_FILE, 22),
                self.send_query(file, INFO_FILE, 15),
                self.send_query(file, INFO_SECURITY, 0, OWNER | GROUP | DACL),
                self.send_read(file, 0, size) if content and not is_dir and 0 < size <= 65536
                else None))
        for file, (relative, is_dir, _), sent in zip(files, entries, queries):
            basic = struct.unpack_from("<QQQQI", self.end_query(sent[0]))
            size = struct.unpack_from("<Q", self.end_query(sent[1]), 8)[0]
            streams = _parse_streams(self.end_query(sent[2]))
            entry = {
                "type": "dir" if is_dir else "file",
                "create": basic[0], "access": basic[1], "write": basic[2], "change": basic[3],
                "attributes": basic[4] & ~ATTR_PLACE, "offline": bool(basic[4] & ATTR_PLACE),
                "eas": _parse_eas(self.end_query(sent[3], (NO_EAS_ON_FILE,))),
                "sd": _parse_sd(self.end_query(sent[4])),
            }
            if not is_dir:
                entry["size"] = size
                if content:
                    first = self.end_read(sent[5]) if sent[5] is not None else b""
                    entry["sha256"] = self._hash(file, size, first)
            entry["streams"] = {}
            for name, stream_size in sorted(streams.items()):
                data = self.get(_join(base, relative) + ":" + name) if content else b""
                entry["streams"][name] = [stream_size, hashlib.sha256(data).hexdigest()]
            yield relative, entry
        for message in [self.send_close(file) for file in files]:
            self.wait(message)

    def _hash(self, file, size, first):
        digest = hashlib.sha256(first)
        flight = []
        offset = len(first)
        while offset < size or flight:
            while offset < size and len(flight) < 4:
                length = min(CHUNK, size - offset)
                flight.append((self.send_read(file, offset, length), length))
                offset += length
            message, length = flight.pop(0)
            data = self.end_read(message)
            if len(data) != length:
                raise SmbError(END_OF_FILE, f"read of {length} bytes gave {len(data)}")
            digest.update(data)
        return digest.hexdigest()


def _join(base, name):
    return f"{base}/{name}" if base and name else base or name


def _parse_sd(data):
    return ndr_unpack(security.descriptor, data).as_sddl()


def _parse_streams(data):
    """{name: size} without the unnamed stream."""
    found = {}
    at = 0
    while at < len(data):
        following, length, size, _ = struct.unpack_from("<IIQQ", data, at)
        name = data[at + 24:at + 24 + length].decode("utf-16-le")
        if name != "::$DATA":
            found[name[1:].rsplit(":", 1)[0]] = size
        if not following:
            break
        at += following
    return found


def _parse_eas(data):
    found = {}
    at = 0
    while at < len(data):
        following, _, name_length, value_length = struct.unpack_from("<IBBH", data, at)
        name = data[at + 8:at + 8 + name_length].decode()
        start = at + 9 + name_length
        if value_length:
            found[name] = data[start:start + value_length].hex()
        if not following:
            break
        at += following
    return found
