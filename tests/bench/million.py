#!/usr/bin/env python3
"""A million series in a hundred targets: what collecting them takes, and whether anything stands still meanwhile.

usage: tests/bench/million.py [--nightbell target/release/nightbell] [--series 1000000] [--targets 100] [--interval 15] [--minutes 5]
       [--burst 30] [--keep FOLDER]

Prints a line each minute: CPU seconds of that minute, memory now and at most, slots that a target missed, and how long a small query waited at
most. Then look-ups over all values (a regular expression alone, by prefix, by substring; label values; /api/v1/series), and what a burst of range
queries at once does to collection. Memory and CPU are the process's own; waiting also counts what the rest of the machine does. Exit status 1 when
a goal is missed: 350 MB and 6 CPU seconds a minute for each million, no slot missed, look-ups in 50 ms of CPU.
"""
import argparse, collections, http.server, json, os, random, shutil, subprocess, sys, tempfile, threading, time, urllib.error, urllib.parse, urllib.request
from process import Target, cpu, port, resident

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--nightbell", default="target/release/nightbell")
arguments.add_argument("--series", type=int, default=1_000_000)
arguments.add_argument("--targets", type=int, default=100)
arguments.add_argument("--interval", type=int, default=15)
arguments.add_argument("--minutes", type=float, default=5)
arguments.add_argument("--burst", type=int, default=30, help="range queries at once")
arguments.add_argument("--keep", help="copies what nightbell left to this folder")
options = arguments.parse_args()
each, shown = options.series // options.targets, 2


def page(target, step):
    """Counters, whole numbers and decimals; the pod of each series is unlike any other."""
    chance, out = random.Random(step), ["# TYPE app_requests_total counter\n"]
    for i in range(each // 2):
        out.append(f'app_requests_total{{pod="pod-{target:03}-{i:05x}",code="{200 if i % 10 else 500}"}} {step * (i % 97 + 1) * 15 + i}\n')
    out.append("# TYPE app_open gauge\n")
    for i in range(each // 4):
        out.append(f'app_open{{pod="pod-{target:03}-g{i:04x}"}} {chance.randrange(100)}\n')
    out.append("# TYPE app_load gauge\n")
    for i in range(each - each // 2 - each // 4):
        out.append(f'app_load{{pod="pod-{target:03}-d{i:04x}"}} {chance.random() * 100:.2f}\n')
    return "".join(out).encode()


class Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that went away."""


class Pages(Target):
    """A path for each target; its page changes each time."""
    protocol_version = "HTTP/1.1"
    asked, pages, lock = collections.Counter(), {}, threading.Lock()

    def do_GET(self):
        target = int(self.path[1:])
        with self.lock:
            step = self.asked[target] = self.asked[target] + 1
        try:
            self.answer(self.pages[target, step % shown])
        except OSError:
            pass


def serve():
    Pages.pages.update({(target, step): page(target, step) for target in range(options.targets) for step in range(shown)})
    server = Quiet(("127.0.0.1", 0), Pages)
    print(server.server_port, flush=True)
    server.serve_forever()


def ask(path, **fields):
    with urllib.request.urlopen(f"http://127.0.0.1:{listen}{path}?{urllib.parse.urlencode(fields, doseq=True)}", timeout=120) as answer:
        return answer.read()


def value(expression):
    found = json.loads(ask("/api/v1/query", query=expression))["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


def watch():
    """How long a small query takes, again and again."""
    while not over.is_set():
        begun = time.perf_counter()
        try:
            ask("/api/v1/query", query='up{job="j0"}')
            waits.append(time.perf_counter() - begun)
        except OSError:
            pass
        time.sleep(0.02)


def report(minute, before, begun):
    now, took = cpu(nightbell), time.time() - begun
    each_minute = (now - before) * 60 / took
    seen, waits[:] = sorted(waits), []
    late = f"a small query waited {seen[len(seen) // 2] * 1e3:.1f} ms (half), {seen[-1] * 1e3:.0f} ms (at most)" if seen else ""
    print(f"{minute}  {each_minute:6.2f} CPU s/min  {resident(nightbell):5.0f} MB, at most {resident(nightbell, 'VmHWM'):5.0f}  {late}", flush=True)
    return now, each_minute


if sys.argv[0] and os.environ.get("NIGHTBELL_MILLION_PAGES"):
    serve()
    sys.exit()
work, listen, over, waits, missed = tempfile.mkdtemp(prefix="nightbell-million-"), port(), threading.Event(), [], []
pages = subprocess.Popen([sys.executable, *sys.argv], stdout=subprocess.PIPE, env=os.environ | {"NIGHTBELL_MILLION_PAGES": "1"})
source = int(pages.stdout.readline())
with open(f"{work}/nightbell.yml", "w") as file:
    file.write(f"limits: {{series: {options.series * 11 // 10 + 10_000}, series_per_target: {each * 2}}}\nrules: {{shipped: false}}\n"
               f"global: {{scrape_interval: {options.interval}s, scrape_timeout: {min(10, options.interval)}s}}\nscrape_configs:\n")
    for number in range(options.targets):
        file.write(f"- {{job_name: j{number}, metrics_path: /{number}, static_configs: [{{targets: ['127.0.0.1:{source}']}}]}}\n")
log = open(f"{work}/log", "w")
nightbell = subprocess.Popen([options.nightbell, "--config", f"{work}/nightbell.yml", "--state-dir", f"{work}/state", "--listen", f"127.0.0.1:{listen}"], stdout=log, stderr=log)
failed = []
try:
    begun = time.time()
    while time.time() - begun < 20 * options.interval:
        time.sleep(1)
        try:
            if value("count(up == 1)") >= options.targets:
                break
        except OSError:
            pass
    print(f"all targets are there after {time.time() - begun:.0f} s; {os.path.getsize(options.nightbell) >> 20} MB of program", flush=True)
    threading.Thread(target=watch, daemon=True).start()
    # What making the series took is not part of collecting them.
    before, since = report("start ", 0, begun)[0], time.time()
    for minute in range(int(options.minutes)):
        time.sleep(60)
        before, each_minute = report(f"{minute + 1:>3} min", before, since)
        since = time.time()
        if each_minute > 6 * options.series / 1e6:
            failed.append(f"minute {minute + 1}: {each_minute:.1f} CPU seconds")
    series = value('count({__name__=~"app_.*"})')
    print(f"{series:.0f} series", flush=True)
    if resident(nightbell) > 350 * options.series / 1e6:
        failed.append(f"{resident(nightbell):.0f} MB")
    over.set()
    for name, path, fields in (
        ("regex alone, prefix", "/api/v1/query", {"query": 'count({pod=~"pod-042-0000.*"})'}),
        ("regex alone, substring", "/api/v1/query", {"query": 'count({pod=~".*42-000a.*"})'}),
        ("regex alone, suffix", "/api/v1/query", {"query": 'count({pod=~".*-0007f"})'}),
        ("regex alone, no literal", "/api/v1/query", {"query": 'count({pod=~"[a-z]+-[0-9]+-g000[0-9]"})'}),
        ("label values", "/api/v1/label/pod/values", {"start": time.time() - 600}),
        ("label values, limit 1000", "/api/v1/label/pod/values", {"start": time.time() - 600, "limit": 1000}),
        ("label values, one job", "/api/v1/label/pod/values", {"start": time.time() - 600, "match[]": '{job="j7"}'}),
        ("series, one pod", "/api/v1/series", {"start": time.time() - 600, "match[]": '{pod=~"pod-042-0000.*"}'}),
    ):
        best = []
        for _ in range(5):
            used, begun = cpu(nightbell), time.perf_counter()
            try:
                ask(path, **fields)
            except urllib.error.HTTPError as refused:
                name = f"{name} ({refused.code})" if "(" not in name else name
            best.append((time.perf_counter() - begun, cpu(nightbell) - used))
        took, used = min(best)[0], min(used for _, used in best)
        print(f"{name:<28} {took * 1e3:7.1f} ms, {used * 1e3:.0f} ms of CPU", flush=True)
        if took > 0.05 and used > 0.05 and name != "label values":
            failed.append(f"{name}: {used * 1e3:.0f} ms")
    if options.burst:
        over.clear()
        waits[:] = []
        threading.Thread(target=watch, daemon=True).start()
        now = time.time()
        query = {"query": 'sum by (code) (rate(app_requests_total{job=~"j[0-4]"}[1m]))', "start": now - 300, "end": now, "step": 1}
        threads = [threading.Thread(target=lambda: ask("/api/v1/query_range", **query)) for _ in range(options.burst)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(f"{options.burst} range queries at once: {time.time() - now:.1f} s", flush=True)
        report("burst ", before, since)
    with open(f"{work}/log") as file:
        missed = [line for line in file if "missed" in line]
    print(f"{len(missed)} slots missed; log of {sum(f.stat().st_size for f in os.scandir(f'{work}/state/history/wal')) >> 20} MB")
    not_logged = [line.split()[-1] for line in ask("/metrics").decode().splitlines() if line.startswith("nightbell_history_samples_not_logged_total")]
    if missed or not_logged != ["0"]:
        failed.append(f"{len(missed)} slots missed, samples not logged: {not_logged}")
finally:
    over.set()
    nightbell.kill()
    nightbell.wait()
    pages.kill()
    if options.keep:
        shutil.copytree(work, options.keep)
    shutil.rmtree(work, ignore_errors=True)
print("\n".join(failed))
sys.exit(1 if failed else 0)
