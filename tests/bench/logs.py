#!/usr/bin/env python3
"""How fast logs are read: megabytes for each second of CPU, plain lines and JSON, beside `grep -c` on the same file; and the memory it takes.

usage: tests/bench/logs.py BINARY [MEGABYTES]
"""
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request

PORT = 19973
TARGETS = {"plain": 300.0, "json": 150.0}


def lines(kind):
    """A block of about a megabyte."""
    out = []
    for n in range(6000):
        level = "ERROR" if n % 500 == 0 else "INFO"
        if kind == "plain":
            out.append(f"2026-11-30 12:00:{n % 60:02d},{n % 1000:03d} {level} app.api request {n} of user {n * 7} took {n % 97} ms, Request started; path /api/v1/items/{n}, answered 200, 5312 bytes")
        else:
            record = {
                "timestamp": f"2026-11-30T12:00:{n % 60:02d}", "level": level, "logger": "app.api", "message": "api.request_duration",
                "request_id": f"{n:032x}", "context": {"url": f"/api/v1/items/{n}", "execution_time": n % 97 / 100, "user": n * 7, "tags": ["a", "b"]},
            }
            out.append(json.dumps(record))
    return ("\n".join(out) + "\n").encode()


def page():
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            name = series.split("{", 1)[0]
            found[name] = found.get(name, 0.0) + float(value)
    return found


def run(binary, folder, kind, size):
    path = os.path.join(folder, f"{kind}.log")
    block = lines(kind)
    with open(path, "wb") as log:
        for _ in range(size * 1_000_000 // len(block)):
            log.write(block)
    written = os.path.getsize(path)
    config = os.path.join(folder, f"{kind}.yml")
    extra = ""
    if kind == "json":
        extra = ", format: json, level: level, observe: {request_duration: {where: {message: api.request_duration}, field: context.execution_time}}"
    with open(config, "w") as out:
        out.write("rules: {shipped: false}\ncollectors:\n  log_file:\n")
        out.write(f"  - {{path: {path}, start: beginning, interval: 2s, max_bytes: 10GB, count: {{requests: {{contains: Request started}}, model: {{contains: Model API error}}}}{extra}}}\n")
    arguments = [binary, "--config", config, "--state-dir", os.path.join(folder, kind), "--listen", f"127.0.0.1:{PORT}"]
    with open(os.path.join(folder, "log.txt"), "wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log)
    try:
        found, deadline = {}, time.time() + 300
        while found.get("log_read_bytes_total", 0) < written and time.time() < deadline:
            time.sleep(0.2)
            try:
                found = page()
            except OSError:
                pass
        with open(f"/proc/{process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        with open(f"/proc/{process.pid}/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    finally:
        process.kill()
        process.wait()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["grep", "-c", "Request started", path], stdout=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    grep = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rate = written / 1e6 / cpu
    verdict = "" if rate >= TARGETS[kind] else f"   below {TARGETS[kind]:.0f}"
    print(f"{kind:6} {written / 1e6:7.0f} MB  nightbell {rate:6.0f} MB/s of CPU, start included; peak {peak / 1024:.0f} MB   grep -c {written / 1e6 / max(grep, 0.01):6.0f} MB/s{verdict}")
    return not verdict


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with tempfile.TemporaryDirectory() as folder:
        results = [run(sys.argv[1], folder, kind, size) for kind in TARGETS]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
