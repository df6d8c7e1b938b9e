#!/usr/bin/env python3
"""A soak: one target that is scraped every second, of which some series end and others begin each second, rules, and alerts that flap.

usage: tests/bench/soak.py [--minutes 60] [--series 5000] [--churn 100] [--rules 100] [--names] [--nightbell target/release/nightbell]

Prints what nightbell uses every few minutes, and at the end whether each of it levels off: whether the last quarter of the time needs about
as much as the quarter before it. Exit status 1 when something goes on growing. What stands on disk may grow by the samples that it keeps, and
memory, until the first block is written after 85 minutes, by the compressed samples of the series that stay: with the room that lies unused
between them up to five bytes each.
"""
import argparse, http.server, json, os, random, signal, statistics, subprocess, sys, tempfile, threading, time, urllib.request
import synthetic
from process import cpu, port, resident

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--minutes", type=float, default=60)
arguments.add_argument("--series", type=int, default=5000, help="series that stay")
arguments.add_argument("--churn", type=int, default=100, help="series that begin each second; each lives for ten")
arguments.add_argument("--names", action="store_true", help="a metric name of its own for each of them")
arguments.add_argument("--rules", type=int, default=100)
arguments.add_argument("--every", type=float, default=5, help="minutes between two lines")
arguments.add_argument("--nightbell", default="target/release/nightbell")
options = arguments.parse_args()
work = tempfile.mkdtemp(prefix="nightbell-soak-")

LIFE = 10
PAGES = [synthetic.page(options.series, step) for step in range(1, 5)]
# How much more the last quarter may need than the one before: a part, and so much besides.
FIRST_BLOCK, SAMPLE = 85, 5 / 2**20
ALLOWED = {"rss": (0.05, 4), "cpu": (0.15, 1), "fds": (0.0, 6), "threads": (0.0, 2), "series": (0.05, 500)}


def page():
    """The page of this second."""
    second = int(time.time())
    out = [f"flap{{n=\"{n}\"}} {int(random.random() < 0.5)}\n" for n in range(20)]
    for age in range(LIFE):
        for n in range(options.churn):
            number = (second - age) * options.churn + n
            name = f"churn_{number}" if options.names else "churn"
            out.append(f'{name}{{pod="pod-{number:x}",path="/a/path/{n}"}} {number % 1000 + age}\n')
    return PAGES[second % len(PAGES)] + "".join(out).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = page()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def rules():
    out = [synthetic.rules(options.rules), "- name: churning\n  interval: 5s\n  rules:\n"]
    out.append("  - {record: 'churn:count', expr: 'count({pod=~\".+\",path=\"/a/path/1\"})'}\n")
    out.append("  - {record: 'churn:rate', expr: 'sum(rate(churn[1m]))'}\n  - {alert: Flaps, expr: 'flap == 1'}\n")
    return "".join(out)


def disk(folder):
    return sum(os.path.getsize(os.path.join(where, name)) for where, _, names in os.walk(folder) for name in names) / 2**20


def series(address):
    with urllib.request.urlopen(f"{address}/api/v1/status/tsdb?limit=1", timeout=30) as answer:
        return json.load(answer)["data"]["headStats"]["numSeries"]


def main():
    target, listen = port(), port()
    threading.Thread(target=http.server.ThreadingHTTPServer(("127.0.0.1", target), Handler).serve_forever, daemon=True).start()
    with open(f"{work}/rules.yml", "w") as f:
        f.write(rules())
    with open(f"{work}/config.yml", "w") as f:
        f.write("global: {scrape_interval: 1s, evaluation_interval: 15s}\nrule_files: [rules.yml]\nscrape_configs:\n- job_name: soak\n")
        f.write(f"  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\nroute: {{receiver: hook, group_by: [n], group_wait: 1s, group_interval: 5s}}\n")
        f.write(f"receivers: [{{name: hook, webhook_configs: [{{url: 'http://127.0.0.1:{target}/hook'}}]}}]\n")
    log = open(f"{work}/log.txt", "wb")
    command = [os.path.abspath(options.nightbell), "--config", f"{work}/config.yml", "--state-dir", f"{work}/state", "--listen", f"127.0.0.1:{listen}"]
    child = subprocess.Popen(command, stdout=log, stderr=log, cwd=work)
    try:
        return soak(child, f"http://127.0.0.1:{listen}")
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
        print(f"log and state: {work}")


def soak(child, address):
    time.sleep(10)
    rows, begin = [], time.time()
    print(f"{'minute':>6} {'RSS MB':>8} {'CPU-s/min':>10} {'files':>6} {'threads':>8} {'disk MB':>8} {'series':>8}")
    shown, used, at = 0.0, cpu(child), begin
    while (minute := (time.time() - begin) / 60) < options.minutes:
        time.sleep(max(0.0, begin + (len(rows) + 1) * 60 - time.time()))
        if child.poll() is not None:
            sys.exit(f"nightbell ended with {child.returncode}: see {work}/log.txt")
        now, minute = time.time(), (time.time() - begin) / 60
        row = {
            "rss": resident(child), "cpu": (cpu(child) - used) * 60 / (now - at), "fds": len(os.listdir(f"/proc/{child.pid}/fd")),
            "threads": len(os.listdir(f"/proc/{child.pid}/task")), "disk": disk(f"{work}/state"), "series": series(address),
        }
        used, at = cpu(child), now
        rows.append(row)
        if minute - shown >= options.every - 0.1 or minute >= options.minutes:
            shown = minute
            print(f"{minute:>6.0f} {row['rss']:>8.0f} {row['cpu']:>10.1f} {row['fds']:>6} {row['threads']:>8} {row['disk']:>8.0f} {row['series']:>8}", flush=True)
    print(f"most memory {resident(child, 'VmHWM'):.0f} MB")
    quarter = max(1, len(rows) // 4)
    grows = []
    for name, (part, besides) in ALLOWED.items():
        before, last = (statistics.median(row[name] for row in rows[place:][:quarter]) for place in (-2 * quarter, -quarter))
        if name == "rss":
            middles = (min(FIRST_BLOCK, len(rows) - quarter * back) for back in (0.5, 1.5))
            kept = options.series * 60 * SAMPLE * (next(middles) - next(middles))
            print(f"         of the growth of memory {kept:.1f} MB are the samples before the first block")
            besides += kept
        level = last <= before * (1 + part) + besides
        print(f"{name:<8} {before:>10.1f} then {last:>10.1f}: {'levels off' if level else 'GROWS'}")
        grows += [] if level else [name]
    start, middle, end = (rows[max(0, len(rows) - 1 - back * quarter)]["disk"] for back in (2, 1, 0))
    faster = end - middle > (middle - start) * 1.5 + 20
    print(f"disk     {middle - start:>10.1f} MB, then {end - middle:.1f} MB more: {'GROWS faster' if faster else 'grows by what it keeps'}")
    return 1 if grows or faster else 0


if __name__ == "__main__":
    sys.exit(main())
