#!/usr/bin/env python3
"""The engine beside Prometheus: live rules, ingestion, range queries and rule tests, both sides in one run on this machine.

usage: tests/bench/engine.py PART… --peers DIR [--nightbell target/release/nightbell] [--seconds 120]

Parts, each with the share of Prometheus's cost that nightbell allows itself:
  test     `test rules` over 2,000 series x 480 steps beside promtool: a tenth of the time, half of the memory
  ingest   a page of 50,000 series, scraped every second without rules: a fifth of the CPU
  small    10,000 series and 200 rules at 15 s: a third of CPU and memory
  large    50,000 series and 800 rules at 15 s, a hundred of which aggregate 25,000 series: a quarter of CPU and memory
  mixed    the same page, every rule aggregating 25,000 series, each in a way of its own
  range    twenty dashboard expressions over 1,000 series x 1,000 steps: none slower, the median twice as fast
  backtest 500 rules over seven days of 300 series at 15 s: at most a minute (the peers have nothing like it)
  all      everything but `mixed`

DIR holds prometheus and promtool. Exit status 1 when a share is exceeded.
"""
import argparse, http.client, json, os, re, shutil, signal, statistics, subprocess, sys, tempfile, threading, time, urllib.parse, urllib.request
import synthetic
from process import cpu, port, resident

PARTS = ("test", "ingest", "small", "large", "mixed", "range", "backtest")
arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("parts", nargs="+", choices=(*PARTS, "all"))
arguments.add_argument("--peers", required=True)
arguments.add_argument("--nightbell", default="target/release/nightbell")
arguments.add_argument("--seconds", type=int, default=120, help="how long the live parts are measured, after two minutes of warming up")
options = arguments.parse_args()
peers, nightbell = os.path.abspath(options.peers), os.path.abspath(options.nightbell)
work = tempfile.mkdtemp(prefix="nightbell-bench-")
processes, exceeded = [], []

EXPRESSIONS = (
    "demo_usage",
    "rate(demo_requests_total[5m])",
    "sum(rate(demo_requests_total[5m]))",
    "sum by (code) (rate(demo_requests_total[5m]))",
    'sum by (route) (rate(demo_requests_total{code="500"}[5m])) / sum by (route) (rate(demo_requests_total[5m]))',
    "histogram_quantile(0.95, sum by (le) (rate(demo_latency_seconds_bucket[5m])))",
    "histogram_quantile(0.99, sum by (le, route) (rate(demo_latency_seconds_bucket[5m])))",
    "avg by (host) (demo_usage)",
    "max by (volume) (demo_usage)",
    "topk(5, demo_usage)",
    "avg_over_time(demo_usage[10m])",
    "max_over_time(demo_usage[1h])",
    "quantile(0.9, demo_usage)",
    "sum by (route) (increase(demo_requests_total[1h]))",
    "irate(demo_requests_total[5m])",
    "count(demo_usage > 50)",
    "demo_usage / on (host) group_left () max by (host) (demo_usage)",
    "predict_linear(demo_usage[1h], 4 * 3600)",
    "(1 - avg by (host) (demo_usage / 100)) * 100",
    "max_over_time(sum by (route) (rate(demo_requests_total[1m]))[10m:1m])",
)


def start(*command):
    log = open(os.path.join(work, "log.txt"), "ab")
    child = subprocess.Popen(command, stdout=log, stderr=log, cwd=work)
    processes.append(child)
    return child


def stop():
    for child in processes:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    for child in processes:
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    processes.clear()


def wait(url, limit=60):
    end = time.time() + limit
    while time.time() < end:
        try:
            return urllib.request.urlopen(url, timeout=10).read()
        except Exception:
            time.sleep(0.1)
    sys.exit(f"{url} does not answer:\n{open(os.path.join(work, 'log.txt')).read()[-2000:]}")


def row(name, ours, theirs, share, form="{:.2f}"):
    ratio = ours / theirs if theirs else float("inf")
    verdict = "" if share is None else "ok" if ratio <= share else "EXCEEDED"
    allowed = "" if share is None else f"{share:.3f}"
    print(f"{name:<58} {form.format(ours):>10} {form.format(theirs):>12} {ratio:>7.3f} {allowed:>8} {verdict}", flush=True)
    if verdict == "EXCEEDED":
        exceeded.append(name)


def both(scrape, rules=None, block=None):
    """Starts both servers on one configuration, Prometheus on a block in place of scraping; returns them with their addresses."""
    sides = []
    for name in ("nightbell", "prometheus"):
        number, folder = port(), os.path.join(work, name)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        with open(f"{folder}/config.yml", "w") as f:
            f.write(f"global: {{scrape_interval: 15s, evaluation_interval: 15s}}\nscrape_configs:{chr(10) + scrape if name == 'nightbell' or not block else ' []'}")
            f.write("\nrule_files: [rules.yml]\n" if rules else "\n")
            f.write("rules: {shipped: false}\n" if name == "nightbell" else "")
        if rules:
            with open(f"{folder}/rules.yml", "w") as f:
                f.write(rules)
        if name == "nightbell":
            child = start(nightbell, "--config", f"{folder}/config.yml", "--state-dir", f"{folder}/state", "--listen", f"127.0.0.1:{number}")
        else:
            if block:
                subprocess.run(block, check=True, stdout=subprocess.DEVNULL)
            child = start(f"{peers}/prometheus", f"--config.file={folder}/config.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{number}")
        wait(f"http://127.0.0.1:{number}/-/ready")
        sides.append((child, f"http://127.0.0.1:{number}"))
    return sides


def target(series):
    number = port()
    start(sys.executable, synthetic.__file__, "target", str(number), str(series))
    wait(f"http://127.0.0.1:{number}/warm")
    return number


def measure(sides, seconds):
    """CPU-seconds a minute and peak MB of each side."""
    before, begin, peak = [cpu(child) for child, _ in sides], time.time(), [0.0, 0.0]
    while time.time() - begin < seconds:
        time.sleep(1)
        peak = [max(p, resident(child)) for p, (child, _) in zip(peak, sides)]
    took = time.time() - begin
    return [(cpu(child) - b) * 60 / took for (child, _), b in zip(sides, before)], peak


def figure(page, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.decode().splitlines() if line.startswith(name))


def live(title, series, rules, share):
    number = target(series)
    sides = both(f"- {{job_name: app, static_configs: [{{targets: ['127.0.0.1:{number}']}}]}}\n", rules)
    time.sleep(120)
    (ours, theirs), (our_memory, their_memory) = measure(sides, options.seconds)
    row(f"{title}: CPU-seconds a minute", ours, theirs, share)
    row(f"{title}: peak resident MB", our_memory, their_memory, share, "{:.1f}")
    pages = [wait(f"{url}/metrics") for _, url in sides]
    missed = [figure(page, f"{prefix}_rule_group_iterations_missed_total") for page, prefix in zip(pages, ("nightbell", "prometheus"))]
    failed = figure(pages[0], "nightbell_rule_evaluation_failures_total")
    print(f"{title}: slots missed {missed[0]:.0f} / {missed[1]:.0f}, failed evaluations {failed:.0f}", flush=True)
    if missed[0] or failed:
        exceeded.append(f"{title}: slots missed or evaluations failed")
    stop()


def part_test():
    folder = os.path.join(work, "test")
    synthetic.rule_test(folder, 2000, 480)

    def run(*command):
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"{command} failed")
        return time.perf_counter() - begin, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime

    ours = [run(nightbell, "test", "rules", f"{folder}/test.yml") for _ in range(5)]
    theirs = [run(f"{peers}/promtool", "test", "rules", f"{folder}/test.yml") for _ in range(2)]
    least = lambda runs, index: min(r[index] for r in runs)
    row("test rules 2,000 x 480: seconds", least(ours, 0), least(theirs, 0), 0.1)
    row("test rules 2,000 x 480: CPU-seconds", least(ours, 2), least(theirs, 2), None)
    row("test rules 2,000 x 480: peak resident MB", max(r[1] for r in ours), max(r[1] for r in theirs), 0.5, "{:.1f}")


def part_ingest():
    number = target(50_000)
    sides = both(f"- {{job_name: app, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{{targets: ['127.0.0.1:{number}']}}]}}\n")
    time.sleep(20)
    (ours, theirs), (our_memory, their_memory) = measure(sides, min(60, options.seconds))
    row("ingest 50,000 series: CPU-milliseconds a scrape", ours / 60 * 1e3, theirs / 60 * 1e3, 0.2)
    row("ingest 50,000 series: peak resident MB", our_memory, their_memory, None, "{:.1f}")
    stop()


def part_range():
    # Four hours of samples: nightbell is told them by a page with timestamps; Prometheus, which takes none older than an hour from a page,
    # gets a block of them. All pages come within a minute: after it, what is older than a block is closed to late samples.
    number, step, count = port(), 15_000, 1250
    begin = (int(time.time()) // 15 - count - 60) * 15_000
    parts = [synthetic.history(1000, begin, step, n, 50) for n in range(0, count, 50)]
    with open(f"{work}/history.txt", "wb") as f:
        for part in parts:
            f.write(re.sub(rb" (\d+)(\d\d\d)\n", rb" \1.\2\n", part))
        f.write(b"# EOF\n")
    threading.Thread(target=synthetic.serve, args=(number, lambda: iter(parts)), daemon=True).start()
    scrape = f"- {{job_name: demo, scrape_interval: 2s, scrape_timeout: 2s, static_configs: [{{targets: ['127.0.0.1:{number}']}}], metric_relabel_configs: [{{action: labeldrop, regex: 'job|instance'}}]}}\n"
    block = [f"{peers}/promtool", "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h", f"{work}/history.txt", f"{work}/prometheus/data"]
    sides = both(scrape, block=block)
    last = begin + (count - 1) * step
    query = urllib.parse.urlencode({"query": "count(demo_usage) + count(demo_requests_total) + count(demo_latency_seconds_bucket)", "time": last / 1000})
    for _, url in sides:
        end = time.time() + 180
        while not json.loads(wait(f"{url}/api/v1/query?{query}"))["data"]["result"]:
            if time.time() > end:
                sys.exit("the history was not taken in time")
            time.sleep(1)
    ratios = []
    for expr in EXPRESSIONS:
        query = urllib.parse.urlencode({"query": expr, "start": (last - 999 * step) / 1000, "end": last / 1000, "step": 15})
        times, answers = [], []
        for _, url in sides:
            host = url.removeprefix("http://")
            one = []
            for _ in range(5):
                connection = http.client.HTTPConnection(host, timeout=60)
                begun = time.perf_counter()
                connection.request("GET", f"/api/v1/query_range?{query}")
                body = connection.getresponse().read()
                one.append(time.perf_counter() - begun)
                connection.close()
            times.append(statistics.median(one) * 1e3)
            answers.append(json.loads(body)["data"]["result"])
        ratios.append(times[0] / times[1])
        row(f"{expr[:48]} ms", *times, 1.0, "{:.1f}")
        shape = [(len(a), sum(len(s["values"]) for s in a)) for a in answers]
        if shape[0] != shape[1]:
            exceeded.append(f"{expr}: {shape[0]} series and points, Prometheus {shape[1]}")
    row("range queries, median ratio", statistics.median(ratios), 1.0, 0.5)
    (_, (ours, theirs)) = measure(sides, 1)
    row("range queries: resident MB", ours, theirs, None, "{:.1f}")
    stop()


def part_backtest():
    step, ticks, each = 15_000, 7 * 86_400 // 15, 500
    begin = (int(time.time()) // 15 - ticks) * 15_000
    # Stamped pages, a scrape each, while the present is collected beside them.
    parts = (synthetic.history(100, begin, step, n, min(each, ticks - n)) for n in range(0, ticks, each))
    number, port_, folder = port(), port(), os.path.join(work, "backtest")
    threading.Thread(target=synthetic.serve, args=(number, lambda: parts), daemon=True).start()
    os.makedirs(folder)
    with open(f"{folder}/config.yml", "w") as f:
        f.write("rules: {shipped: false}\nscrape_configs:\n- {job_name: demo, scrape_interval: 2s, scrape_timeout: 2s, "
                f"static_configs: [{{targets: ['127.0.0.1:{number}']}}], metric_relabel_configs: [{{action: labeldrop, regex: 'job|instance'}}]}}\n")
    with open(f"{folder}/rules.yml", "w") as f:
        f.write(synthetic.rules(500, shapes=synthetic.HISTORY_SHAPES))
    start(nightbell, "--config", f"{folder}/config.yml", "--state-dir", f"{folder}/state", "--listen", f"127.0.0.1:{port_}")
    query = urllib.parse.urlencode({"query": "count(demo_usage)", "time": (begin + (ticks - 1) * step) / 1000})
    end = time.time() + 600
    while not json.loads(wait(f"http://127.0.0.1:{port_}/api/v1/query?{query}"))["data"]["result"]:
        if time.time() > end:
            sys.exit("the history was not taken in time")
        time.sleep(2)
    query = urllib.parse.urlencode({"query": "sum(count_over_time({__name__=~'demo_.*'}[8d]))"})
    samples = float(json.loads(wait(f"http://127.0.0.1:{port_}/api/v1/query?{query}"))["data"]["result"][0]["value"][1])
    stop()
    begun = time.perf_counter()
    command = (nightbell, "backtest", f"{folder}/rules.yml", "--since", "7d", "--config", f"{folder}/config.yml", "--state-dir", f"{folder}/state", "--output", "json")
    child = subprocess.Popen(command, stdout=open(f"{folder}/report.json", "wb"))
    _, status, usage = os.wait4(child.pid, 0)
    took = time.perf_counter() - begun
    if status:
        sys.exit("the backtest failed")
    print(f"backtest of 500 rules, 7 days at 15 s, {samples:,.0f} samples: {took:.1f} s (allowed: 60), peak resident {usage.ru_maxrss / 1024:.0f} MB", flush=True)
    if took > 60:
        exceeded.append("backtest")


def run(part):
    match part:
        case "test":
            part_test()
        case "ingest":
            part_ingest()
        case "range":
            part_range()
        case "backtest":
            part_backtest()
        case "small":
            live("10,000 series, 200 rules", 10_000, synthetic.rules(200), 1 / 3)
        case "large":
            live("50,000 series, 800 rules", 50_000, synthetic.rules(800), 0.25)
        case "mixed":
            labels = ("method", "code", "pod", "route", "method, code", "code, pod", "method, route", "code, route")
            shapes = [f"{op} by ({by}) (rate(app_requests_total[{window}])) > 1e12" for op in ("sum", "avg", "max", "count") for by in labels for window in ("1m", "2m")]
            live("50,000 series, 100 aggregations", 50_000, synthetic.rules(100, shapes=shapes), 0.25)


try:
    print(f"{'':<58} {'nightbell':>10} {'Prometheus':>12} {'ratio':>7} {'allowed':>8}")
    for part in PARTS:
        if part in options.parts or ("all" in options.parts and part != "mixed"):
            run(part)
finally:
    stop()
    shutil.rmtree(work, ignore_errors=True)
if exceeded:
    sys.exit("exceeded: " + "; ".join(exceeded))
