#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 120
"""One client reads many stubs at once: it has a bounded number of requests under way, and another client's reader
waits for its own request alone. A client over its budget is slowed; others are not, and nobody is refused.
"""

import random

import smb2
from local import counter
from proxy import Proxy
from smb import Testbed, bed_path, check, step, wait_until

FILES = 60
SIZE = 20000
LARGE = 3 << 20
BUDGET = (2 << 20) + 1000  # the third MiB of LARGE is begun when some is left, and half a minute's worth is owed then
PARALLEL = 16  # the default of `parallel fetches`


def data_of(name, size=SIZE):
    return random.Random(name).randbytes(size)


def recalls(bed):
    return bed.ctl_json("status")["volumes"][0]["recall"]


def many(bed, proxy, greedy):
    step(f"{FILES} stubs are read at once, and S3 does not answer")
    proxy.hold("GET", "/greedy/")
    files = [greedy.create(f"greedy/{number}", smb2.READ_DATA) for number in range(FILES)]
    reads = [greedy.send_read(file, 0, SIZE) for file in files]
    wait_until(lambda: recalls(bed)["files"] == FILES and recalls(bed)["requests"] >= PARALLEL * 3 // 4, 20,
               "all are asked for")
    seen = recalls(bed)
    check(seen["requests"] <= PARALLEL * 3 // 2, f"{seen}")
    check(seen["clients"] == 1 and seen["clients_over_budget"] == 0, f"{seen}")
    step("another client reads another stub")
    with bed.client() as other:
        check(other.get("other") == data_of("other"), "other bytes")
    check(recalls(bed)["files"] == FILES, "it waited for those of the first one")
    proxy.release()
    for number, (file, read) in enumerate(zip(files, reads)):
        check(greedy.end_read(read) == data_of(f"greedy/{number}"), f"{number}: other bytes")
        greedy.close(file)
    check(counter(bed, "recalls_slowed") == 0, "it was slowed below its budget")


def over(bed, client):
    step("a client goes over its budget: its next read is slowed, no other's is")
    check(client.get("large") == data_of("large", LARGE), "other bytes")
    check(counter(bed, "recalls_slowed") == 0, "it was slowed below its budget")
    check(recalls(bed)["clients_over_budget"] == 1, f"{recalls(bed)}")
    file = client.create("slowed", smb2.READ_DATA)
    read = client.send_read(file, 0, SIZE)
    wait_until(lambda: counter(bed, "recalls_slowed") == 1, 8, "it is slowed")
    with bed.client() as other:
        check(other.get("third") == data_of("third"), "other bytes")
    check(recalls(bed)["files"] == 1, "it was not slowed for long enough to be seen")
    check(client.end_read(read) == data_of("slowed"), "other bytes")
    client.close(file)
    check(counter(bed, "recalls_slowed") == 1, "others were slowed")


def main():
    path = bed_path()
    proxy = Proxy(path)
    with Testbed(store="rgw", path=path, set=["settle time=0", f"recall budget={BUDGET}",
                                              f"endpoint={proxy.url}"]) as bed:
        with bed.client() as client:
            client.mkdir("greedy")
            for number in range(FILES):
                client.put(f"greedy/{number}", data_of(f"greedy/{number}"))
            for name in ("other", "third", "slowed"):
                client.put(name, data_of(name))
            client.put("large", data_of("large", LARGE))
        bed.flush()
        wait_until(lambda: bed.ctl("evict", ".", may_fail=True)[0] == 0, 30, "all are stubs")
        with bed.client() as greedy:
            many(bed, proxy, greedy)
        with bed.client() as client:
            over(bed, client)


if __name__ == "__main__":
    main()
