#!/usr/bin/env python3
"""The worst that nightbell may hold: targets that fill the store, a flood of posted alerts, expensive queries; then kill -9 and a start.

usage: tests/bench/worst_case.py [--series 1000000] [--nightbell target/release/nightbell] [--cgroup NAME]

Prints the most memory that each phase took, how long the start took until it answered, and what the unit (deploy/nightbell.service)
allows. With --cgroup (root, cgroup v1 or v2 mounted) both run in a group of that name with the unit's MemoryMax. Exit status 1 when a phase
took more than that, or did not live.
"""
import argparse, http.server, json, os, pathlib, re, signal, subprocess, sys, tempfile, threading, time, urllib.error, urllib.parse, urllib.request
from process import Target, port, resident

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--series", type=int, default=1_000_000)
arguments.add_argument("--nightbell", default="target/release/nightbell")
arguments.add_argument("--cgroup", help="name of the group to make")
options = arguments.parse_args()

TARGETS = 8
unit = (pathlib.Path(__file__).parent / "../../deploy/nightbell.service").read_text()
most = int(re.search(r"^MemoryMax=(\d+)M", unit, re.M)[1])


class Exploding(Target):
    """Each page has further series that were never there before."""
    pages = {}

    def do_GET(self):
        step = self.pages[self.path] = self.pages.get(self.path, 0) + 1
        each = options.series // TARGETS // 8
        body = "".join(f'explode{{pod="pod-{step}-{i:x}",path="/a/path/{i % 50}"}} {i}\n' for i in range(each)).encode()
        self.answer(body)


def ask(path, body=None, kind="application/json"):
    request = urllib.request.Request(f"http://127.0.0.1:{listen}{path}", data=body, headers={"Content-Type": kind} if body else {})
    try:
        return urllib.request.urlopen(request, timeout=90).read()
    except urllib.error.HTTPError as refused:
        return refused.read()
    except OSError:
        return b""


def group(child):
    """Puts a process into the group with the unit's limit."""
    if not options.cgroup:
        return
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        folder = f"{root}/{options.cgroup}"
        try:
            os.makedirs(folder, exist_ok=True)
            pathlib.Path(folder, limit).write_text(str(most << 20))
            pathlib.Path(folder, "cgroup.procs").write_text(str(child.pid))
            return
        except OSError:
            continue
    sys.exit("no memory cgroup can be made")


def start():
    log = open(f"{work}/log", "a")
    child = subprocess.Popen(command, stdout=log, stderr=log)
    group(child)
    begun = time.time()
    while b"is ready" not in ask("/-/ready").lower() and child.poll() is None and time.time() - begun < 300:
        time.sleep(0.05)
    return child, time.time() - begun


def attack():
    queries = ["count by (pod) (explode)", "sort(explode)", "max_over_time(explode[1h:1s])", 'explode{pod=~".*7.*"} + 1', "label_join(explode, \"x\", \"\", \"pod\", \"path\")"]
    while not over.is_set():
        for query in queries:
            ask("/api/v1/query?" + urllib.parse.urlencode({"query": query}))


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Exploding)
threading.Thread(target=server.serve_forever, daemon=True).start()
work, listen, over = tempfile.mkdtemp(prefix="nightbell-worst-"), port(), threading.Event()
with open(f"{work}/nightbell.yml", "w") as file:
    file.write(f"limits: {{series: {options.series}}}\nglobal: {{scrape_interval: 5s, evaluation_interval: 5s}}\nscrape_configs:\n")
    for number in range(TARGETS):
        file.write(f"- {{job_name: j{number}, metrics_path: /{number}, static_configs: [{{targets: ['127.0.0.1:{server.server_port}']}}]}}\n")
command = [options.nightbell, "--config", f"{work}/nightbell.yml", "--state-dir", f"{work}/state", "--listen", f"127.0.0.1:{listen}"]
nightbell, _ = start()
alive = True
try:
    print("Two minutes of targets that explode, posted alerts and queries …", flush=True)
    for _ in range(4):
        threading.Thread(target=attack, daemon=True).start()
    begun = time.time()
    for number in range(40):
        alerts = [{"labels": {"alertname": f"A{number}", "n": str(n), "text": "x" * 200}} for n in range(1000)]
        ask("/api/v2/alerts", json.dumps(alerts).encode())
    while time.time() - begun < 120 and nightbell.poll() is None:
        time.sleep(1)
    alive = nightbell.poll() is None
    peak, series = resident(nightbell, "VmHWM"), ask("/api/v1/status/tsdb")
    head = json.loads(series)["data"]["headStats"]["numSeries"] if series else 0
    print(f"running: {'alive' if alive else 'DEAD'}, {head} series, at most {peak:.0f} MB of {most}", flush=True)
    over.set()
    nightbell.send_signal(signal.SIGKILL)
    nightbell.wait()
    server.shutdown()
    server.server_close()
    nightbell, seconds = start()
    alive = alive and nightbell.poll() is None
    again = resident(nightbell, "VmHWM")
    print(f"start after kill -9: {'alive' if alive else 'DEAD'}, ready after {seconds:.1f} s, at most {again:.0f} MB of {most}")
finally:
    over.set()
    nightbell.kill()
    nightbell.wait()
sys.exit(0 if alive and max(peak, again) <= most else 1)
