# SPDX-License-Identifier: GPL-3.0-or-later
"""A server-side copy by FSCTL_SRV_COPYCHUNK, as a client makes it: [MS-SMB2] 2.2.31."""

import struct

from smb2 import FILE_CREATE, INFO_FILE, IOCTL, MAXIMUM_ALLOWED, OK, READ_ATTRIBUTES, READ_DATA, SmbError

MIB = 1 << 20
REQUEST_RESUME_KEY = 0x00140078
COPYCHUNK_WRITE = 0x001480F2
SET_EOF = 20


def send_ioctl(client, file, code, data=b""):
    body = struct.pack("<HHI16sIIIIIIII", 57, 0, code, file, 64 + 56, len(data), 0, 0, 0, 4096, 1, 0)
    return client.send(IOCTL, body + (data or b"\0"))


def end_ioctl(client, message):
    status, body, _, _ = client.wait(message)
    if status != OK:
        raise SmbError(status, "ioctl")
    offset, length = struct.unpack_from("<II", body, 32)
    return body[offset - 64:offset - 64 + length]


class Copy:
    """A copy by chunks, as a client makes it."""

    def __init__(self, client, source, target, disposition=FILE_CREATE, sized=None):
        self.client = client
        self.source = client.create(source, READ_DATA | READ_ATTRIBUTES)
        self.target = client.create(target, MAXIMUM_ALLOWED, disposition)
        if sized is not None:
            client.set(self.target, INFO_FILE, SET_EOF, struct.pack("<Q", sized))
        self.key = end_ioctl(client, send_ioctl(client, self.source, REQUEST_RESUME_KEY))[:24]

    def send(self, chunks):
        """chunks: [(source offset, target offset, length)], at most 16."""
        return send_ioctl(self.client, self.target, COPYCHUNK_WRITE, struct.pack(
            "<24sII", self.key, len(chunks), 0) + b"".join(
                struct.pack("<QQII", *chunk, 0) for chunk in chunks))

    def chunks(self, *chunks):
        end_ioctl(self.client, self.send(list(chunks)))

    def whole(self, size, together=False):
        every = [(at, at, min(MIB, size - at)) for at in range(0, size, MIB)]
        sent = []
        for first in range(0, len(every), 4):
            sent.append(self.send(every[first:first + 4]))
            if not together:
                end_ioctl(self.client, sent.pop())
        for message in sent:
            end_ioctl(self.client, message)

    def close(self):
        self.client.close(self.target)
        self.client.close(self.source)
