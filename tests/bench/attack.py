#!/usr/bin/env python3
"""Attacks on the query API beside a target of 5,000 series that is scraped every second, a rule that is evaluated every second and a webhook.

usage: tests/bench/attack.py [--seconds 20] [--nightbell target/release/nightbell]

Prints, for each attack, how long /-/healthy and posted critical alerts take, and which scrapes and evaluations were kept. Exit status 1
when health takes more than 100 ms at the 99th percentile, an alert more than 2 s until it is at the webhook, or anything was missed.
"""
import argparse, http.server, json, multiprocessing, subprocess, sys, tempfile, threading, time, urllib.error, urllib.parse, urllib.request
from process import Target, port, resident

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--seconds", type=float, default=20, help="how long each attack lasts")
arguments.add_argument("--nightbell", default="target/release/nightbell")
options = arguments.parse_args()

PAGE = "".join(f'syn_gauge{{i="{i}"}} {i}\n' for i in range(5000)).encode()
scrapes, hooks = [], []


class Handler(Target):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        scrapes.append(time.time())
        self.answer(PAGE)

    def do_POST(self):
        hooks.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.answer(b"")


def ask(path, body=None, kind="application/x-www-form-urlencoded", timeout=60):
    """The body of an answer; refusals are answers, too."""
    request = urllib.request.Request(f"http://127.0.0.1:{listen}{path}", data=body, headers={"Content-Type": kind} if body else {})
    try:
        return urllib.request.urlopen(request, timeout=timeout).read()
    except urllib.error.HTTPError as refused:
        return refused.read()


def lookups(count):
    body = "&".join(["match[]=%7B__name__%3D~%22.%2B%22%7D"] * count).encode()
    return lambda: ask("/api/v1/series", body)


def long_regex():
    alternation = "|".join(f"x{i:06d}" for i in range(30_000))
    body = urllib.parse.urlencode({"query": f'a{{b=~"{alternation}"}}'}).encode()
    return lambda: ask("/api/v1/format_query", body)


def heavy_range():
    now = time.time()
    form = {"query": "sum_over_time(sin(vector(time()))[30h:10s])", "start": now - 3600, "end": now, "step": 5}
    return lambda: ask("/api/v1/query_range?" + urllib.parse.urlencode(form))


def wide_subquery():
    return lambda: ask("/api/v1/query?" + urllib.parse.urlencode({"query": "max_over_time(syn_gauge[1h:1ms])"}))


ATTACKS = {
    "none": [],
    "6 x series, 3,000 or 500 matchers": [lookups(3000)] * 2 + [lookups(500)] * 4,
    "8 x format_query, regex of 240 kB": [long_regex()] * 8,
    "20 x subquery of 10,800 points, 720 steps": [heavy_range()] * 20,
    "20 x subquery of 18 billion points": [wide_subquery()] * 20,
    "10 x federate of everything": [lambda: ask("/federate?match[]=%7B__name__%3D~%22.%2B%22%7D")] * 10,
}


def again(attack):
    """A client in a process of its own: it must not hold up the one that measures."""
    while True:
        try:
            attack()
        except OSError:
            time.sleep(0.05)


def post(name):
    """Seconds until a posted critical alert is at the webhook."""
    start = time.time()
    ask("/api/v2/alerts", json.dumps([{"labels": {"alertname": name, "severity": "critical"}}]).encode(), "application/json")
    while not any(name in hook for hook in hooks) and time.time() - start < 20:
        time.sleep(0.005)
    return time.time() - start


def evaluations(since):
    query = urllib.parse.urlencode({"query": f"count_over_time(tick[{max(1, round(time.time() - since))}s])"})
    found = json.loads(ask("/api/v1/query?" + query))["data"]["result"]
    return int(found[0]["value"][1]) if found else 0


def missed():
    lines = ask("/metrics").decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if "iterations_missed_total{" in line)


def measure(name, attack):
    """Prints a line; returns whether all was kept."""
    clients = [multiprocessing.Process(target=again, args=(each,), daemon=True) for each in attack]
    for client in clients:
        client.start()
    time.sleep(1)
    start, before, slots, waits, alerts = time.time(), len(scrapes), missed(), [], []
    while time.time() - start < options.seconds:
        asked = time.time()
        ask("/-/healthy")
        waits.append(time.time() - asked)
        if len(waits) % 40 == 1:
            alerts.append(post(f"Posted{len(hooks)}_{int(start)}"))
        time.sleep(0.05)
    seconds, scraped = time.time() - start, len(scrapes) - before
    evaluated = evaluations(start)
    for client in clients:
        client.kill()
    health, alert = sorted(waits)[int(len(waits) * 0.99)], max(alerts)
    # One evaluation may lie on the edge of the time.
    kept = scraped >= int(seconds) and evaluated >= int(seconds) - 1 and missed() == slots
    print(f"{name:44}{health * 1000:8.0f} ms{alert:10.2f} s{scraped:8} of {int(seconds)}{evaluated:8}{resident(nightbell):9.0f} MB", flush=True)
    return kept and health <= 0.1 and alert <= 2


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
work, listen = tempfile.mkdtemp(prefix="nightbell-attack-"), port()
target = f"127.0.0.1:{server.server_port}"
with open(f"{work}/rules.yml", "w") as file:
    file.write("groups: [{name: g, interval: 1s, rules: [{record: tick, expr: vector(1)}]}]\n")
with open(f"{work}/nightbell.yml", "w") as file:
    file.write(f"rule_files: ['{work}/rules.yml']\nglobal: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n")
    file.write(f"scrape_configs: [{{job_name: page, static_configs: [{{targets: ['{target}']}}]}}]\n")
    file.write("route: {receiver: hook, group_by: [alertname], group_wait: 0s}\n")
    file.write(f"receivers: [{{name: hook, webhook_configs: [{{url: 'http://{target}/'}}]}}]\n")
command = [options.nightbell, "--config", f"{work}/nightbell.yml", "--state-dir", f"{work}/state", "--listen", f"127.0.0.1:{listen}"]
with open(f"{work}/log", "w") as log:
    nightbell = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
try:
    time.sleep(10)
    print(f"{'attack':44}{'health p99':>11}{'alert':>12}{'scrapes':>14}{'slots':>8}{'memory':>12}", flush=True)
    kept = [measure(name, attack) for name, attack in ATTACKS.items()]
    with open(f"{work}/log") as log:
        print(f"{sum(1 for _ in log)} log lines")
finally:
    nightbell.terminate()
    nightbell.wait()
sys.exit(0 if all(kept) else 1)
