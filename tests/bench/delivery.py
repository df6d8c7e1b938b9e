#!/usr/bin/env python3
"""Delivery beside Prometheus and Alertmanager, both sides in one run on this machine.

usage: tests/bench/delivery.py PART… --peers DIR [--nightbell target/release/nightbell] [--repetitions 100]

Parts:
  latency  from the sample that crosses the threshold to the webhook's request, collection every second, critical, `group_wait: 0s`: under
           1 s at the 99th percentile; beside Prometheus and Alertmanager with what they come with (evaluation_interval 15s, group_wait 30s)
  flush    10,000 active alerts in 500 groups: a cycle that has nothing to send and one that sends all groups, each under 1 s of CPU, and
           under 60 MB resident; beside Alertmanager with the same alerts
  storm    5,000 alerts in 10 s for a robot that takes 20 messages a minute: every alert is named, at most one refusal, memory stays flat
  all      the three

DIR holds prometheus, prometheus-alertmanager. Exit status 1 when a figure is missed.
"""
import argparse, collections, http.server, json, os, random, re, shutil, signal, subprocess, sys, tempfile, threading, time, urllib.request
from process import cpu, port, resident

PARTS = ("latency", "flush", "storm")
arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("parts", nargs="+", choices=(*PARTS, "all"))
arguments.add_argument("--peers", required=True)
arguments.add_argument("--nightbell", default="target/release/nightbell")
arguments.add_argument("--repetitions", type=int, default=100)
options = arguments.parse_args()
peers, nightbell = os.path.abspath(options.peers), os.path.abspath(options.nightbell)
work = tempfile.mkdtemp(prefix="nightbell-bench-")
processes, missed = [], []


class Server(http.server.ThreadingHTTPServer):
    """Serves a page and takes requests, each with the instant at which it came."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, limit=None):
        super().__init__(("127.0.0.1", 0), Handler)
        # Whether each series is above its threshold, when it came to be, and when that was first collected.
        self.values, self.changed, self.collected = {}, {}, {}
        self.requests, self.taken, self.refused, self.limit = [], collections.deque(), 0, limit
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def page(self):
        with self.lock:
            now = time.time()
            for name, value in self.values.items():
                if value:
                    self.collected.setdefault(name, now)
            return "".join(f'trouble{{n="{name}"}} {value}\n' for name, value in self.values.items()).encode()

    def take(self, body, at):
        """Whether a message is taken; a robot with a limit refuses more than that in a minute."""
        with self.lock:
            while self.taken and self.taken[0] < at - 60:
                self.taken.popleft()
            if self.limit and len(self.taken) >= self.limit:
                self.refused += 1
                return 60 - (at - self.taken[0])
            self.taken.append(at)
            self.requests.append((at, body))
            return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet an answer: two of them would wait for each other's acknowledgement.
    wbufsize, disable_nagle_algorithm = 1 << 16, True

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain; version=0.0.4", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, self.server.page())

    def do_POST(self):
        at = time.time()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        wait = self.server.take(body, at)
        if wait is None:
            self.answer(200, b'{"errcode": 0, "errmsg": "ok"}')
        else:
            self.answer(429, Retry_After=str(int(wait) + 1))

    def log_message(self, *_):
        pass


def start(*command):
    child = subprocess.Popen(command, stdout=open(os.path.join(work, "log.txt"), "ab"), stderr=subprocess.STDOUT, cwd=work)
    processes.append(child)
    return child


def stop():
    for child in processes:
        child.send_signal(signal.SIGTERM)
    for child in processes:
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    processes.clear()


def ready(url, limit=60):
    until(lambda: answers(url), limit, f"{url} does not answer")


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=10).read() is not None
    except OSError:
        return False


def until(is_so, limit, complaint):
    end = time.time() + limit
    while not is_so():
        if time.time() > end:
            stop()
            sys.exit(f"{complaint}\n{open(os.path.join(work, 'log.txt')).read()[-3000:]}")
        time.sleep(0.02)


def report(name, ours, limit, theirs=None, unit="s"):
    beside = f"{theirs:>10.3f} {theirs / ours if ours else float('inf'):>8.1f}x" if theirs is not None else f"{'':>20}"
    verdict = "" if limit is None else "ok" if ours <= limit else "MISSED"
    allowed = "" if limit is None else f"{limit:g}"
    print(f"{name:<66} {ours:>9.3f} {unit:<2} {beside} {allowed:>8} {verdict}", flush=True)
    if verdict == "MISSED":
        missed.append(name)


def config(name, text):
    path = os.path.join(work, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def run_nightbell(text):
    number = port()
    shutil.rmtree(f"{work}/state", ignore_errors=True)
    path = config("nightbell.yml", text)
    child = start(nightbell, "--config", path, "--state-dir", f"{work}/state", "--listen", f"127.0.0.1:{number}")
    ready(f"http://127.0.0.1:{number}/-/ready")
    return child, f"http://127.0.0.1:{number}"


def run_alertmanager(text):
    number = port()
    shutil.rmtree(f"{work}/alertmanager", ignore_errors=True)
    child = start(f"{peers}/prometheus-alertmanager", f"--config.file={config('alertmanager.yml', text)}", f"--storage.path={work}/alertmanager",
                  f"--web.listen-address=127.0.0.1:{number}", "--cluster.listen-address=", "--log.level=error")
    ready(f"http://127.0.0.1:{number}/-/ready")
    return child, f"http://127.0.0.1:{number}"


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


RULES = "groups: [{name: g, rules: [{alert: Trouble, expr: trouble == 1, labels: {severity: critical}}]}]\n"
ROUTE = "receiver: hook, group_by: [n], repeat_interval: 4h"


def delays(server, repetitions, pause, limit):
    """Seconds from the collection of each trouble, and from the trouble itself, to its message."""
    def told():
        return {alert["labels"]["n"]: at for at, body in reversed(server.requests) for alert in json.loads(body)["alerts"]}
    for number in range(repetitions):
        time.sleep(pause * (0.5 + random.random()))
        with server.lock:
            server.values[f"{number}"] = 1
            server.changed[f"{number}"] = time.time()
    until(lambda: len(told()) == repetitions, limit, "not every trouble was notified")
    return [[at - since[name] for name, at in told().items()] for since in (server.collected, server.changed)]


def part_latency():
    rules = config("rules.yml", RULES)
    figures = []
    for side in ("nightbell", "peers"):
        server = Server()
        target = server.url.removeprefix("http://")
        scrape = f"rule_files: ['{rules}']\nscrape_configs: [{{job_name: app, static_configs: [{{targets: ['{target}']}}]}}]\n"
        hook = f"receivers: [{{name: hook, webhook_configs: [{{url: '{server.url}'}}]}}]\n"
        repetitions = options.repetitions if side == "nightbell" else min(options.repetitions, 40)
        server.values = {f"{n}": 0 for n in range(repetitions)}
        if side == "nightbell":
            run_nightbell(f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n{scrape}rules: {{shipped: false}}\nroute: {{{ROUTE}, group_wait: 0s}}\n{hook}")
        else:
            _, url = run_alertmanager(f"route: {{{ROUTE}}}\n{hook}")
            number = port()
            shutil.rmtree(f"{work}/prometheus", ignore_errors=True)
            there = f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{url.removeprefix('http://')}']}}]}}]}}\n"
            text = f"global: {{scrape_interval: 1s, evaluation_interval: 15s}}\n{scrape}{there}"
            start(f"{peers}/prometheus", f"--config.file={config('prometheus.yml', text)}", f"--storage.tsdb.path={work}/prometheus",
                  f"--web.listen-address=127.0.0.1:{number}", "--log.level=error")
            ready(f"http://127.0.0.1:{number}/-/ready")
        time.sleep(3)
        figures.append(delays(server, repetitions, 0.4 if side == "nightbell" else 1, 120))
        stop()
        server.shutdown()
    (ours, our_whole), (theirs, their_whole) = figures
    for share, limit in ((0.5, None), (0.99, 1.0)):
        report(f"latency: sample to request, {share:.0%} of {len(ours)}", percentile(ours, share), limit, percentile(theirs, share))
    report("latency: sample to request, mean", sum(ours) / len(ours), None, sum(theirs) / len(theirs))
    report("latency: change to request (with the wait for the collection), 99%", percentile(our_whole, 0.99), None, percentile(their_whole, 0.99))


ALERTS, GROUPS, CYCLE = 10_000, 500, 20


def post(url, alerts):
    body = json.dumps(alerts).encode()
    request = urllib.request.Request(f"{url}/api/v2/alerts", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=60).read()


def part_flush():
    annotations = {"summary": "the disk of {} is nearly full, and nobody is there to look after it", "runbook_url": "https://runbooks.example.org/disk"}
    alerts = [{"labels": {"alertname": f"Alert{n % GROUPS}", "instance": f"host-{n}:9100", "job": "node", "severity": "warning", "team": "infra"},
               "annotations": annotations, "generatorURL": "http://prometheus.example.org/graph"} for n in range(ALERTS)]
    for what, repeat in (("nothing to send", "4h"), ("all groups sent", "1s")):
        figures = []
        for run in (run_nightbell, run_alertmanager):
            server = Server()
            own = "rules: {shipped: false}\n" if run is run_nightbell else ""
            child, url = run(f"{own}global: {{resolve_timeout: 24h}}\nroute: {{receiver: hook, group_by: [alertname], group_wait: 5s, group_interval: {CYCLE}s, "
                             f"repeat_interval: {repeat}}}\nreceivers: [{{name: hook, webhook_configs: [{{url: '{server.url}'}}]}}]\n")
            idle = cpu(child)
            time.sleep(10)
            idle = (cpu(child) - idle) / 10
            for begin in range(0, ALERTS, 1000):
                post(url, alerts[begin:begin + 1000])
            until(lambda: len(server.requests) >= GROUPS, 60, "not every group was notified")
            # Cycles are counted from the middle between two of them; what it does without alerts is no part of them.
            time.sleep(CYCLE / 2)
            cycles, before, sent, peak = 3, cpu(child), len(server.requests), 0
            for _ in range(cycles * CYCLE):
                time.sleep(1)
                peak = max(peak, resident(child))
            figures.append(((cpu(child) - before) / cycles - idle * CYCLE, peak, (len(server.requests) - sent) / cycles, resident(child, "VmHWM")))
            stop()
            server.shutdown()
        (ours, memory, messages, highest), (theirs, their_memory, their_messages, their_highest) = figures
        report(f"flush, {what} ({messages:.0f} / {their_messages:.0f} messages): CPU a cycle", ours, 1.0, theirs)
        report(f"flush, {what}: resident", memory, 60, their_memory, "MB")
        report(f"flush, {what}: resident at most since the start", highest, 60, their_highest, "MB")


def part_storm():
    """Each alert is a group of its own."""
    server = Server(limit=20)
    child, url = run_nightbell(f"rules: {{shipped: false}}\nglobal: {{resolve_timeout: 24h}}\nroute: {{receiver: robot, group_by: ['...'], group_wait: 0s, repeat_interval: 4h}}\n"
                               f"receivers: [{{name: robot, dingtalk_configs: [{{url: '{server.url}/robot/send?access_token=x'}}]}}, "
                               f"{{name: hook, webhook_configs: [{{url: '{server.url}'}}]}}]\n")
    names = {f"n{n:04}" for n in range(5000)}
    waiting, begin, highest = sorted(names), time.time(), 0
    before = resident(child)
    for second in range(10):
        for chunk in range(5):
            part = waiting[(second * 5 + chunk) * 100:(second * 5 + chunk + 1) * 100]
            post(url, [{"labels": {"alertname": "Down", "job": "node", "instance": name, "severity": "critical"}} for name in part])
            time.sleep(max(0, begin + second + (chunk + 1) / 5 - time.time()))
        highest = max(highest, resident(child))
    after = resident(child)
    heard, seen = set(), 0
    def all_named():
        nonlocal heard, seen, highest
        for _, body in server.requests[seen:]:
            heard |= set(re.findall(r"n\d{4}", body.decode()))
            seen += 1
        highest = max(highest, resident(child))
        return heard >= names
    until(all_named, 600, f"not every alert was named: {len(heard)}")
    print(f"storm: {seen} messages name {len(heard & names)} alerts in {time.time() - begin:.0f} s, {server.refused} refusals", flush=True)
    report("storm: refusals", server.refused, 1, unit="")
    report("storm: resident before", before, None, unit="MB")
    report("storm: resident when all had come", after, None, unit="MB")
    report("storm: resident at most", highest, 90, unit="MB")
    stop()


try:
    for part in PARTS if "all" in options.parts else options.parts:
        globals()[f"part_{part}"]()
finally:
    stop()
    shutil.rmtree(work, ignore_errors=True)
sys.exit(f"missed: {', '.join(missed)}" if missed else 0)
