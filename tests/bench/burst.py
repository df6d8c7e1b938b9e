#!/usr/bin/env python3
"""A burst of expensive queries, then a minute of rest: is the memory that it took given back?

usage: tests/bench/burst.py [--nightbell target/release/nightbell] [--clients 20]

Prints resident memory before, at the peak and a minute later. Exit status 1 when it is then more than 20 % above what it was before.
Variables of the environment choose among the allocator's settings (MALLOC_ARENA_MAX and so on), or another allocator by LD_PRELOAD.
"""
import argparse, http.server, subprocess, sys, tempfile, threading, time, urllib.error, urllib.parse, urllib.request
from process import Target, port, resident

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--nightbell", default="target/release/nightbell")
arguments.add_argument("--clients", type=int, default=20)
options = arguments.parse_args()

PAGE = "".join(f'syn_gauge{{i="{i}"}} {i}\n' for i in range(5000)).encode()


class Page(Target):
    def do_GET(self):
        self.answer(PAGE)


def ask(path, **parameters):
    """The status of an answer, which is read to its end."""
    try:
        answer = urllib.request.urlopen(f"http://127.0.0.1:{listen}{path}?" + urllib.parse.urlencode(parameters), timeout=90)
        answer.read()
        return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code


def client(number):
    now = time.time()
    for _ in range(3):
        statuses.append(ask("/api/v1/query_range", query=f'syn_gauge{{i=~"{number}.*"}} + 1', start=now - 3600, end=now, step=2))
    statuses.append(ask("/api/v1/query", query="max_over_time(syn_gauge[1h:1ms])"))


target = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=target.serve_forever, daemon=True).start()
work, listen, statuses = tempfile.mkdtemp(prefix="nightbell-burst-"), port(), []
with open(f"{work}/nightbell.yml", "w") as file:
    file.write("global: {scrape_interval: 1s, evaluation_interval: 1s}\nscrape_configs:\n")
    file.write(f"- {{job_name: page, static_configs: [{{targets: ['127.0.0.1:{target.server_port}']}}]}}\n")
command = [options.nightbell, "--config", f"{work}/nightbell.yml", "--state-dir", f"{work}/state", "--listen", f"127.0.0.1:{listen}"]
nightbell = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    print("30 s of collection, the burst, a minute of rest …", flush=True)
    time.sleep(30)
    before = resident(nightbell)
    clients = [threading.Thread(target=client, args=(number,)) for number in range(options.clients)]
    [one.start() for one in clients]
    [one.join() for one in clients]
    peak = resident(nightbell, "VmHWM")
    time.sleep(60)
    after = resident(nightbell)
finally:
    nightbell.terminate()
    nightbell.wait()
answered = ", ".join(f"{statuses.count(status)} x {status}" for status in sorted(set(statuses)))
print(f"answers: {answered}\nresident MB: before {before:.1f}, at the peak {peak:.1f}, a minute later {after:.1f} ({after / before - 1:+.0%})")
sys.exit(after > before * 1.2)
