# SPDX-License-Identifier: GPL-3.0-or-later
"""smb.conf as sections: {section: {key: value}}."""

# What a share needs besides its path and modules; both shares get the same.
SHARE_SETTINGS = {
    "read only": "no",
    "admin users": "objectfsadm",
    "acl_xattr:ignore system acls": "yes",
    "inherit acls": "yes",
    "create mask": "0777",
    "directory mask": "0777",
    "ea support": "yes",
    "store dos attributes": "yes",
    "map archive": "no",
    "map hidden": "no",
    "map system": "no",
    "map readonly": "no",
    "kernel oplocks": "no",
    "kernel share modes": "no",
    "posix locking": "no",
    "durable handles": "yes",
    "mangled names": "no",
    "strict sync": "yes",
}


def read_fragment(path):
    """{section: {key: value}} of a file as in smb.conf.d; none: {}."""
    sections = {}
    if not path:
        return sections
    with open(path, encoding="utf-8") as file:
        for line in file:
            line = line.strip()
            if line.startswith("["):
                sections[line.strip("[]")] = {}
            elif line and not line.startswith(("#", ";")):
                key, _, value = line.partition("=")
                sections[list(sections)[-1]][key.strip()] = value.strip()
    return sections


def write_sections(path, sections):
    with open(path, "w", encoding="utf-8") as file:
        for title, settings in sections.items():
            file.write(f"[{title}]\n")
            for key, value in settings.items():
                file.write(f"\t{key} = {value}\n")
