#!/usr/bin/env python3
"""Dashboards over days and weeks: nightbell, Prometheus and VictoriaMetrics with the same samples, in one run on this machine.

Half of the series are noisy counters (random increments, a reset now and then), half are gauges that walk in steps of 4096, all at 15 s. All
three stores get them, then each expression is asked of each over several spans, at 720 points. nightbell is measured twice: with its history as
it was fed, in small blocks, and merged. `cold`: the page cache is dropped before each query (needs root); `warm`: the least of several runs.
VictoriaMetrics is asked with `nocache=1`, so that it computes every answer. Ratios are nightbell's time through the other's.

usage: tests/bench/longrange.py --peers DIR [--nightbell target/release/nightbell] [--sets 200x3 60x28] [--keep DIR]

A set is SERIESxDAYS. DIR of --peers holds prometheus, promtool and victoria-metrics. With --keep the stores are kept there and filled once.
nightbell's queries yield to everything else on the machine (nice 10), which the others' do not: measure on an idle one.
Exit status 1 when a goal is missed: against Prometheus 0.25 at the median and 0.5 at worst, against VictoriaMetrics 1.0 and 2.0.
"""
import argparse, glob, http.client, itertools, json, os, random, shutil, signal, statistics, subprocess, sys, tempfile, threading, time, urllib.parse, urllib.request
import synthetic
from process import port, resident

EXPRESSIONS = (
    "rate(c[5m])",
    "rate(c[1h])",
    "increase(c[1d])",
    "sum by (instance) (rate(c[1h]))",
    "sum(rate(c[5m]))",
    "irate(c[5m])",
    "g",
    "sum(g)",
    "avg by (instance) (g)",
    "topk(5, g)",
    "quantile(0.9, g)",
    "avg_over_time(g[1h])",
    "max_over_time(g[6h])",
    "min_over_time(g[1d])",
    "quantile_over_time(0.95, g[1h])",
    "stddev_over_time(g[1h])",
    "deriv(g[6h])",
    "predict_linear(g[1h], 14400)",
    "delta(g[1h])",
    "changes(g[1h])",
)
POINTS, STEP = 720, 15_000
GOALS = {"prometheus": (0.25, 0.5), "victoria": (1.0, 2.0)}

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--peers", required=True)
arguments.add_argument("--nightbell", default="target/release/nightbell")
arguments.add_argument("--sets", nargs="+", default=["200x3", "60x28"])
arguments.add_argument("--runs", type=int, default=5)
arguments.add_argument("--merge-minutes", type=float, default=20, help="how long merging may take; 0: only as fed")
arguments.add_argument("--keep")
options = arguments.parse_args()
peers, nightbell = os.path.abspath(options.peers), os.path.abspath(options.nightbell)
work = os.path.abspath(options.keep) if options.keep else tempfile.mkdtemp(prefix="nightbell-longrange-")
processes, missed = {}, []


def start(name, folder, *command):
    with open(os.path.join(folder, f"{name}.log"), "ab") as log:
        processes[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)


def stop(*names):
    for name in names or tuple(processes):
        child = processes.pop(name, None)
        if child and child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def wait(url, limit=120):
    end = time.time() + limit
    while True:
        try:
            return urllib.request.urlopen(url, timeout=10).read()
        except OSError as error:
            if time.time() > end:
                sys.exit(f"{url} does not answer: {error}")
            time.sleep(0.1)


def samples(series, days, last):
    """Lines of text with timestamps in milliseconds, one instant after the other."""
    chance, count = random.Random(1), days * 86_400_000 // STEP
    names = [f'{"cg"[i % 2]}{{instance="i{i // 2 % 10}",n="{i // 20}"}}' for i in range(series)]
    values = [1000 * i if i % 2 == 0 else 4096 * 100_000 for i in range(series)]
    for instant in range(count + 1):
        at = last - (count - instant) * STEP
        for i, name in enumerate(names):
            if i % 2:
                values[i] += 4096 * chance.randrange(-3, 4)
            elif chance.random() < 5e-6:
                values[i] = chance.randrange(77)
            else:
                values[i] += chance.randrange(100_000)
            yield f"{name} {values[i]} {at}\n"


def serve_nightbell(folder, config):
    number = port()
    with open(f"{folder}/nightbell.yml", "w") as f:
        f.write(f"rules: {{shipped: false}}\nstorage: {{path: {folder}/history, retention: 90d, max_size: 0}}\n{config}")
    start("nightbell", folder, nightbell, "--config", f"{folder}/nightbell.yml", "--state-dir", f"{folder}/state", "--listen", f"127.0.0.1:{number}")
    wait(f"http://127.0.0.1:{number}/-/ready")
    return f"http://127.0.0.1:{number}"


def feed_nightbell(folder, series, last):
    """By pages with timestamps, a scrape each."""
    def pages():
        with open(f"{folder}/samples.txt") as f:
            while page := "".join(itertools.islice(f, 150_000 // series * series)):
                yield page.encode()

    left, number = pages(), port()
    threading.Thread(target=synthetic.serve, args=(number, lambda: left), daemon=True).start()
    url = serve_nightbell(folder, "scrape_configs:\n- {job_name: fed, honor_labels: true, scrape_interval: 1s, scrape_timeout: 1s, body_size_limit: 0, sample_limit: 0, "
                          f"static_configs: [{{targets: ['127.0.0.1:{number}']}}], metric_relabel_configs: [{{action: labeldrop, regex: job}}]}}\n")
    query = urllib.parse.urlencode({"query": "count(c)", "time": last / 1000})
    end = time.time() + 3600
    while not json.loads(wait(f"{url}/api/v1/query?{query}"))["data"]["result"]:
        if time.time() > end:
            sys.exit("the samples were not taken in time")
        time.sleep(1)
    # They are written to blocks once none has come for a while.
    settled(folder, 10)
    stop("nightbell")


def blocks(folder):
    return len(glob.glob(f"{folder}/history/blocks/*.block"))


def settled(folder, minutes):
    """Waits until the number of blocks has not changed for three minutes; upkeep runs once a minute."""
    end, since, before = time.time() + minutes * 60, time.time(), blocks(folder)
    while time.time() < end and (time.time() - since < 185 or not before):
        time.sleep(5)
        if (now := blocks(folder)) != before:
            since, before = time.time(), now
    return before


def feed(folder, series, days):
    os.makedirs(folder, exist_ok=True)
    if os.path.exists(f"{folder}/last"):
        return int(open(f"{folder}/last").read())
    last = (int(time.time()) // 15 - 8) * STEP
    with open(f"{folder}/samples.txt", "w") as f:
        f.writelines(samples(series, days, last))
    feed_nightbell(folder, series, last)
    feed_peers(folder)
    with open(f"{folder}/last", "w") as f:
        f.write(str(last))
    return last


def feed_peers(folder):
    with open(f"{folder}/samples.txt") as f, open(f"{folder}/openmetrics.txt", "w") as out:
        for line in f:
            out.write(f"{line[:-4]}.{line[-4:]}")
        out.write("# EOF\n")
    command = (f"{peers}/promtool", "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=768h", f"{folder}/openmetrics.txt", f"{folder}/prometheus")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    os.remove(f"{folder}/openmetrics.txt")
    url = serve_victoria(folder)
    with open(f"{folder}/samples.txt") as f:
        while part := "".join(itertools.islice(f, 200_000)):
            urllib.request.urlopen(f"{url}/api/v1/import/prometheus", part.encode()).read()
    wait(f"{url}/internal/force_flush")
    wait(f"{url}/internal/force_merge")
    time.sleep(10)
    stop("victoria")


def serve_victoria(folder):
    number = port()
    start("victoria", folder, f"{peers}/victoria-metrics", f"-storageDataPath={folder}/victoria", f"-httpListenAddr=127.0.0.1:{number}", "-retentionPeriod=100d",
          "-search.latencyOffset=0s", "-search.maxUniqueTimeseries=1000000")
    wait(f"http://127.0.0.1:{number}/health")
    return f"http://127.0.0.1:{number}"


def serve_prometheus(folder):
    number = port()
    with open(f"{folder}/prometheus.yml", "w") as f:
        f.write("scrape_configs: []\n")
    start("prometheus", folder, f"{peers}/prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/prometheus",
          "--storage.tsdb.retention.time=90d", f"--web.listen-address=127.0.0.1:{number}")
    wait(f"http://127.0.0.1:{number}/-/ready")
    return f"http://127.0.0.1:{number}"


def serve(folder):
    return {"nightbell": serve_nightbell(folder, ""), "prometheus": serve_prometheus(folder), "victoria": serve_victoria(folder)}


def ask(url, expression, days, last):
    query = {"query": expression, "start": (last - days * 86_400_000) / 1000, "end": last / 1000, "step": days * 86_400 // POINTS, "nocache": 1}
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)
    begun = time.perf_counter()
    connection.request("GET", f"/api/v1/query_range?{urllib.parse.urlencode(query)}")
    body = connection.getresponse().read()
    took = (time.perf_counter() - begun) * 1e3
    connection.close()
    return took, body


def points(body):
    return sum(len(series["values"]) for series in json.loads(body)["data"]["result"])


def drop_caches():
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError:
        return False


def measure(title, urls, days, last, cold):
    """The times of each expression and store, and their ratios."""
    print(f"\n{title}, {days} days at {POINTS} points: ms\n{'':<34}" + "".join(f"{name:>12}" for name in urls) + f"{'/ Prometheus':>14}{'/ Victoria':>12}", flush=True)
    ratios = {name: [] for name in GOALS}
    for expression in EXPRESSIONS:
        times, found = {}, {}
        for name, url in urls.items():
            runs = []
            for _ in range(1 if cold else options.runs):
                if cold:
                    drop_caches()
                took, body = ask(url, expression, days, last)
                runs.append(took)
            times[name], found[name] = min(runs), points(body)
        if found["nightbell"] != found["prometheus"]:
            missed.append(f"{expression}: {found['nightbell']} points, Prometheus {found['prometheus']}")
        shares = {name: times["nightbell"] / times[name] for name in GOALS}
        for name, ratio in shares.items():
            ratios[name].append(ratio)
        print(f"{expression:<34}" + "".join(f"{times[name]:>12.1f}" for name in urls) + f"{shares['prometheus']:>14.2f}{shares['victoria']:>12.2f}", flush=True)
    for name, (middle, worst) in GOALS.items():
        median, most = statistics.median(ratios[name]), max(ratios[name])
        kept = median <= middle and most <= worst
        print(f"median ratio to {name}: {median:.2f} (goal {middle}), worst {most:.2f} (goal {worst}){'' if kept else '  MISSED'}", flush=True)
        if not kept and not cold:
            missed.append(f"{title}, {days} days: {name} {median:.2f} and {most:.2f}")


def run(series, days):
    folder = os.path.join(work, f"{series}x{days}")
    last = feed(folder, series, days)
    spans = [span for span in (1, 3, 7, 30) if span < days] + [days]
    for state in ("as fed", "merged"):
        urls = serve(folder)
        count = blocks(folder)
        if state == "merged":
            count = settled(folder, options.merge_minutes)
            stop()
            urls = serve(folder)
        title = f"{series} series, {state} ({count} blocks)"
        if os.geteuid() == 0:
            measure(f"{title}, cold", urls, days, last, True)
        for span in spans:
            measure(f"{title}, warm", urls, span, last, False)
        print("resident MB: " + ", ".join(f"{name} {resident(child):.0f}" for name, child in processes.items()), flush=True)
        stop()
        if not options.merge_minutes:
            break


try:
    for one in options.sets:
        run(*map(int, one.split("x")))
finally:
    stop()
    if not options.keep:
        shutil.rmtree(work, ignore_errors=True)
if missed:
    sys.exit("missed: " + "; ".join(missed))
