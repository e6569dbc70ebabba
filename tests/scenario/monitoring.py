#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# timeout: 200
"""The pages for monitoring: /metrics has every row of the tables of counters and times, in a form that
Prometheus' own parser takes, and the figures of what was done; /health and /ready say what is wrong, with
a remedy, and that it is over; a core that hangs, a store that is away, senseless and too many requests."""

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

from smb import ROOT, Testbed, check, fail, skip, step, wait_until

try:
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:
    skip("python3-prometheus-client is not installed; run 'make deps'")


def get(bed, path, method="GET", timeout=60):
    """(status, content type, text)"""
    request = urllib.request.Request(f"http://{bed.http}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def metrics(bed):
    """{(sample name, labels sorted): value}, {family name: (type, help)}"""
    status, kind, text = get(bed, "/metrics")
    check(status == 200, f"/metrics: {status}")
    check(kind.startswith("text/plain; version=0.0.4"), f"/metrics is of type {kind}")
    samples, families = {}, {}
    for family in text_string_to_metric_families(text):
        check(family.name not in families, f"{family.name} twice")
        families[family.name] = (family.type, family.documentation)
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            check(key not in samples, f"{key} twice")
            samples[key] = sample.value
    return samples, families


def value(samples, name, **labels):
    key = (f"objectfs_{name}", tuple(sorted(labels.items())))
    if key not in samples:
        fail(f"no {key} on /metrics")
    return samples[key]


def component(bed, name):
    """The entries of a component on /health, and the page's status."""
    status, kind, text = get(bed, "/health")
    check(kind == "application/json", f"/health is of type {kind}")
    health = json.loads(text)
    found = [item for item in health["components"] if item["component"] == name]
    check(found, f"/health has no {name}: {text}")
    for item in found:
        check(item["state"] == "ok" or (item["reason"] and item["remedy"] and item["what"]),
              f"no reason, or no remedy: {item}")
    return status, health["state"], found


def has_id(bed, name, wanted):
    return any(item.get("id") == wanted for item in component(bed, name)[2])


def check_rows(bed):
    before = value(metrics(bed)[0], "http_requests_total")
    samples, families = metrics(bed)
    check(value(samples, "http_requests_total") > before, "pages are not counted")
    with open(f"{ROOT}/cached/base/stats_table.h", encoding="utf-8") as file:
        table = file.read().replace("\\\n", " ")
    rows = re.findall(r'\bS\((\w+), (COUNTER|GAUGE), \w+, "([^"]+)"\)', table)
    check(len(rows) > 30, "the table of counters has not been understood")
    for name, kind, text in rows:
        # the parser takes _total off a counter's family
        found = families.get(f"objectfs_{name}")
        check(found == (kind.lower(), text), f"{name}: {found}")
    times = re.findall(r'\bH\((\w+), (\w+), "', table)
    labels = dict(re.findall(r'\bF\((\w+), "(\w+)", "', table))
    check(len(times) > 15 and len(labels) > 2, "the table of times has not been understood")
    for family, row in times:
        label = {labels[family]: row}
        total = value(samples, f"{family}_seconds_count", **label)
        check(value(samples, f"{family}_seconds_bucket", le="+Inf", **label) == total,
              f"{family} {row}: the last bucket is not the count")
    check(families["objectfs_step_seconds"][0] == "histogram", "times are no histograms")
    check(value(samples, "memory_bytes") > 1 << 20, "no memory")
    check(value(samples, "threads") >= 10, "no threads")
    return samples


def work(bed):
    """Write, drain, lose the disk, read: what each step adds."""
    before, _ = metrics(bed)
    bed.smbclient("mkdir d; put /etc/hosts d/one; put /etc/services d/two")
    bed.flush()
    bed.wipe()
    code, output = bed.smbclient("get d/two /dev/null; ls d/*")
    check(code == 0, output)
    after, _ = metrics(bed)  # the daemon is a new one: its counters began anew
    check(value(before, "s3_requests_ended_total", type="PUT", result="ok") > 0, "no PUT counted")
    for kind in ("GET", "LIST"):
        check(value(after, "s3_requests_ended_total", type=kind, result="ok") > 0,
              f"no {kind} ended")
        check(value(after, "s3_request_seconds_count", type=kind.lower()) > 0, f"{kind}: no time")
    for name in ("recall_open", "first_extent", "list"):
        count = value(after, "step_seconds_count", step=name)
        total = value(after, "step_seconds_sum", step=name)
        check(count > 0 and 0 < total < 30 * count, f"{name}: {count} took {total} s")
    for lane in ("any", "order", "index"):
        check(value(after, "disk_wait_seconds_count", lane=lane) > 0, f"no job in {lane}")
    for name in ("recalls", "lookups", "s3_other", "opens_away", "lists_asked", "names_asked", "s3_get",
                 "s3_head", "s3_list"):
        check(value(after, f"{name}_total") >= 1, f"{name}_total")
    check(value(after, "volume_ready", volume="test") == 1, "not ready")
    check(value(after, "volume_sessions", volume="test") >= 0, "sessions")
    code, output = bed.smbclient("put /etc/hosts three")
    check(code == 0, output)
    bed.flush()
    after, _ = metrics(bed)
    for name in ("upload", "backlog"):
        check(value(after, "step_seconds_count", step=name) > 0, f"{name}: no time")
    check(value(after, "volume_backlog_age_seconds", volume="test") == 0, "a backlog without work")


def store_away(bed):
    status, state, _ = component(bed, "backlog")
    check((status, state) == (200, "ok"), f"health is {status} {state}")
    bed.stop("store")
    code, output = bed.smbclient("put /etc/hosts late")
    check(code == 0, output)
    wait_until(lambda: has_id(bed, "backlog", "backlog-old"), 20, "/health says that the backlog is old")
    wait_until(lambda: has_id(bed, "store", "store-failing"), 30, "/health says that the store fails")
    status, state, _ = component(bed, "store")
    check((status, state) == (200, "degraded"), f"a store away: {status} {state}")
    code, output = bed.smbclient("get d/one /dev/null")
    check(code != 0, f"a stub is read without a store: {output}")
    samples, _ = metrics(bed)
    for name in ("upload_failures", "recall_failures", "s3_errors", "s3_retries"):
        check(value(samples, f"{name}_total") >= 1, f"{name}_total")
    check(value(samples, "volume_backlog_age_seconds", volume="test") > 1, "no age of the backlog")
    check(value(samples, "volume_pending", volume="test") >= 1, "nothing pending")
    check(get(bed, "/ready")[0] == 200, "files that are here work: the volume is ready")
    bed.restart("cached")
    status, _, text = get(bed, "/ready")
    check(status == 503 and "store of volume test" in text, f"/ready without a store: {status} {text}")
    check(component(bed, "store")[:2] == (503, "failed"), "/health without a store")
    check(has_id(bed, "store", "store-away"), "/health does not say that the store is away")
    check(get(bed, "/live")[0] == 200, "/live")
    bed.start("store")
    wait_until(lambda: get(bed, "/ready")[0] == 200, 30, "ready again")
    bed.flush()
    wait_until(lambda: component(bed, "store")[:2] == (200, "ok"), 10, "well again")
    check(component(bed, "backlog")[1] == "ok", "the backlog has gone")


def core_hangs(bed):
    pid = bed.cached_pid
    strace = subprocess.Popen(
        ["strace", "-q", "-o", "/dev/null", "-e", "trace=epoll_wait", "-e",
         "inject=epoll_wait:delay_exit=30s", "-p", pid], stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: strace.poll() is not None or get(bed, "/ready")[0] == 503, 20, "the core hangs")
        if strace.poll() is not None:
            step("strace cannot attach here: not tried with a core that hangs")
            return
        wait_until(lambda: live_within(bed, 1), what="/live does not wait for the core")
        status, _, text = get(bed, "/ready")
        check(status == 503 and "core" in text, f"/ready with a core that hangs: {status} {text}")
        check(component(bed, "daemon")[0] == 503, "/health with a core that hangs")
        samples, _ = metrics(bed)
        check(value(samples, "core_answers") == 0, "the core is said to answer")
        check(not any("volume_pending" in name for name, _ in samples), "figures out of thin air")
        check(value(samples, "disk_jobs_total") > 0, "counters need the core")
    finally:
        strace.terminate()
        strace.wait()
    wait_until(lambda: get(bed, "/ready")[0] == 200, 60, "the core is back")


def live_within(bed, seconds):
    began = time.monotonic()
    check(get(bed, "/live")[0] == 200, "/live needs the core")
    return time.monotonic() - began < seconds


def live(bed):
    try:
        return get(bed, "/live")[0] == 200
    except OSError:  # beyond the most connections
        return False


def senseless(bed):
    check(get(bed, "/")[0] == 404 and "/metrics" in get(bed, "/x")[2], "an unknown page")
    for method in ("POST", "PUT", "DELETE"):
        check(get(bed, "/metrics", method)[0] == 405, f"{method} is allowed")
    status, _, text = get(bed, "/live", "HEAD")
    check((status, text) == (200, ""), f"HEAD: {status} {text!r}")
    address = bed.http.split(":")
    for data in (b"\0\xff\r\n\r\n", b"GET /live HTTP/1.1\r\nX: " + b"a" * 100000 + b"\r\n\r\n",
                 b"GET " + b"/" * 100000):
        with socket.create_connection((address[0], int(address[1])), timeout=60) as sock:
            try:
                sock.sendall(data)
                answer = sock.recv(100)
            except OSError:
                answer = b""
        check(not answer.startswith(b"HTTP/1.1 200"), f"{data[:20]!r}: {answer!r}")
    held = [socket.create_connection((address[0], int(address[1]))) for _ in range(60)]
    time.sleep(0.2)
    for sock in held:
        sock.close()
    wait_until(lambda: live(bed), 15, "an answer after 60 idle connections")
    check(os.path.exists(f"/proc/{bed.cached_pid}"), "the daemon has ended")


def taken(bed):
    """A port that is not free: the shares come up, and health says it."""
    with open(bed.conf, encoding="utf-8") as file:
        conf = file.read()
    with open(bed.conf, "w", encoding="utf-8") as file:
        file.write(re.sub(r"http listen = .*", f"http listen = 127.0.0.1:{bed.smb_port}", conf))
    bed.restart("cached")
    health = bed.ctl_json("health")
    check(any(item.get("id") == "http-off" for item in health["components"]), f"{health}")
    code, output = bed.smbclient("ls")
    check(code == 0, output)
    check(bed.ctl_json("status")["http"] is None, "status says that pages are served")
    for wrong in ("localhost:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "::1:80", "[::1]"):
        with open(bed.conf, "w", encoding="utf-8") as file:
            file.write(re.sub(r"http listen = .*", f"http listen = {wrong}", conf))
        done = subprocess.run([f"{bed.testbed_build}/objectfs-cached", "-c", bed.conf,
                               "--check-config"], capture_output=True, text=True, check=False)
        check(done.returncode == 2 and "http listen" in done.stderr, f"{wrong}: {done.stderr}")
    with open(bed.conf, "w", encoding="utf-8") as file:
        file.write(re.sub(r"http listen = .*", "http listen =", conf))
    bed.restart("cached")
    check(bed.ctl_json("status")["http"] is None, "pages are served though switched off")
    check("http-off" not in bed.ctl("health"), "switched off is no problem")


def main():
    with Testbed(store="rgw", set=["settle time=500ms", "backlog age=2s", "retries=1",
                                   "request timeout=2s"]) as bed:
        step("every row is on the page")
        check_rows(bed)
        check(get(bed, "/ready")[0] == 200, "not ready")
        step("what is done is counted")
        work(bed)
        step("the store is away")
        store_away(bed)
        step("the core hangs")
        core_hangs(bed)
        step("senseless requests")
        senseless(bed)
        step("a port that is taken, or none")
        taken(bed)


main()
