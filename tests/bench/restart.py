#!/usr/bin/env python3
"""A start after kill -9, beside Prometheus and VictoriaMetrics, in one run on this machine.

Every server scrapes the same pages; then it is killed and started again on what it left. Measured from the start on: when it answers HTTP, when
its first collection has come in, when a query at the time before the kill counts all series again, and when that holds for the newest time.

usage: tests/bench/restart.py --peers DIR [--nightbell target/release/nightbell] [--series 500000] [--targets 10] [--scrapes 10] [--interval 15]
       [--only nightbell] [--keep FOLDER]

DIR holds prometheus and, if it is to be measured, victoria-metrics. Exit status 1 when nightbell does not answer within 300 ms or takes more
than half of Prometheus's time to have all series.
"""
import argparse, json, os, shutil, signal, subprocess, sys, tempfile, time, urllib.parse, urllib.request
import synthetic
from process import port, resident

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--peers", required=True)
arguments.add_argument("--nightbell", default="target/release/nightbell")
arguments.add_argument("--series", type=int, default=500_000)
arguments.add_argument("--targets", type=int, default=10)
arguments.add_argument("--scrapes", type=int, default=10)
arguments.add_argument("--interval", type=int, default=15)
arguments.add_argument("--only", action="append")
arguments.add_argument("--keep", help="copies what nightbell left to this folder")
options = arguments.parse_args()
peers, nightbell = os.path.abspath(options.peers), os.path.abspath(options.nightbell)
work = tempfile.mkdtemp(prefix="nightbell-restart-")
children = []


def start(*command):
    log = open(os.path.join(work, "log.txt"), "ab")
    children.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=work))
    return children[-1]


def get(url, limit=10):
    return urllib.request.urlopen(url, timeout=limit).read()


def until(check, limit):
    """Seconds until `check` holds; None if it does not within `limit`."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < limit:
        try:
            if check():
                return time.perf_counter() - begin
        except (OSError, ValueError, KeyError, IndexError):
            pass
        time.sleep(0.005)
    return None


def value(url, expression, at=None):
    fields = {"query": expression, "timeout": "120s", "nocache": "1"} | ({"time": at} if at else {})
    found = json.loads(get(f"{url}/api/v1/query?{urllib.parse.urlencode(fields)}", 120))["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


def server(name):
    """Its command, and its address."""
    number, folder = port(), os.path.join(work, name)
    os.makedirs(folder, exist_ok=True)
    addresses = ", ".join(f"'127.0.0.1:{page}'" for page in pages)
    config = f"global: {{scrape_interval: {options.interval}s, scrape_timeout: {min(10, options.interval)}s}}\nscrape_configs:\n- {{job_name: app, static_configs: [{{targets: [{addresses}]}}]}}\n"
    if name == "nightbell":
        config += "rules: {shipped: false}\n"
    with open(f"{folder}/config.yml", "w") as file:
        file.write(config)
    command = {
        "nightbell": [nightbell, "--config", f"{folder}/config.yml", "--state-dir", f"{folder}/state", "--listen", f"127.0.0.1:{number}"],
        "prometheus": [f"{peers}/prometheus", f"--config.file={folder}/config.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{number}"],
        "victoria-metrics": [f"{peers}/victoria-metrics", f"-promscrape.config={folder}/config.yml", f"-storageDataPath={folder}/data",
                             f"-httpListenAddr=127.0.0.1:{number}", "-search.maxUniqueTimeseries=10000000", "-promscrape.maxScrapeSize=1GB", "-search.latencyOffset=0s"],
    }[name]
    return command, f"http://127.0.0.1:{number}"


def measure(name):
    command, url = server(name)
    child = start(*command)
    if until(lambda: get(f"{url}/-/ready" if name != "victoria-metrics" else f"{url}/health"), 60) is None:
        sys.exit(f"{name} does not start:\n{open(os.path.join(work, 'log.txt')).read()[-2000:]}")
    time.sleep(options.interval * options.scrapes)
    total = 0
    for _ in range(60):
        total = value(url, 'count({job="app"})')
        if total >= options.series * 0.9 and value(url, 'count(up{job="app"} == 1)') == options.targets:
            break
        time.sleep(1)
    memory, killed = resident(child), time.time()
    child.send_signal(signal.SIGKILL)
    child.wait()
    if name == "nightbell" and options.keep:
        shutil.copytree(os.path.join(work, name), options.keep)
    begin, child = time.perf_counter(), start(*command)
    marks = {}
    checks = {
        "answers": lambda: get(f"{url}/-/healthy" if name != "victoria-metrics" else f"{url}/health"),
        "collects": lambda: value(url, f'count(timestamp(up{{job="app"}}) > {killed:.3f})') > 0,
        "before": lambda: value(url, 'count({job="app"})', f"{killed - 1:.3f}") >= total,
        "now": lambda: value(url, f'count(up{{job="app"}} == 1)') == options.targets and value(url, 'count({job="app"})') >= total,
    }
    while checks and time.perf_counter() - begin < 180:
        for mark, check in list(checks.items()):
            try:
                if check():
                    marks[mark] = time.perf_counter() - begin
                    del checks[mark]
            except (OSError, ValueError, KeyError, IndexError):
                break
        time.sleep(0.005)
    marks["memory"] = resident(child)
    child.send_signal(signal.SIGTERM)
    child.wait()
    shown = "  ".join(f"{mark} {marks[mark]:8.2f} s" if mark in marks else f"{mark}    never  " for mark in ("answers", "collects", "before", "now"))
    print(f"{name:<18} {total:>9.0f} series  {memory:7.0f} MB before  {shown}  {marks['memory']:7.0f} MB after", flush=True)
    return marks


pages = []
try:
    for _ in range(options.targets):
        pages.append(port())
        start(sys.executable, synthetic.__file__, "target", str(pages[-1]), str(options.series // options.targets))
    for page in pages:
        if until(lambda page=page: get(f"http://127.0.0.1:{page}/warm"), 120) is None:
            sys.exit("a page is not served")
    names = [name for name in ("nightbell", "prometheus", "victoria-metrics") if not options.only or name in options.only]
    found = {name: measure(name) for name in names if name == "nightbell" or os.path.exists(f"{peers}/{name}")}
finally:
    for child in children:
        if child.poll() is None:
            child.kill()
    shutil.rmtree(work, ignore_errors=True)
failed = []
if "nightbell" in found:
    if found["nightbell"].get("answers", 1e9) > 0.3:
        failed.append("nightbell answers later than 300 ms after its start")
    if "prometheus" in found and found["nightbell"].get("before", 1e9) > found["prometheus"].get("before", 1e9) / 2:
        failed.append("nightbell takes more than half of Prometheus's time to have all series")
print("\n".join(failed))
sys.exit(1 if failed else 0)
