#!/usr/bin/env python3
"""Bytes a sample on disk, one kind of data after the other: nightbell, Prometheus and VictoriaMetrics with the same samples, in one run.

The kinds: `counters` grow by a random whole number below 100,000 each time; `gauges` walk in steps of 4096, up to 32 of them either way; `factor`
are integers with a common factor of 1,500, some growing, some walking; `host` is what the host collector has recorded, a folder of a history given
by --recorded, or recorded here for --seconds at one second. The first three have 200 series for a whole day at 15 s. What is counted is the size
of all files in each one's folder, indexes included, after merging by force, through the number of samples; VictoriaMetrics' `cache` and `tmp`
are left out, which it makes anew. nightbell gets the samples by `history import`, so they lie in blocks of a day.

usage: tests/bench/bytes.py --peers DIR [--nightbell target/release/nightbell] [--kinds counters gauges factor host] [--recorded HISTORY]

Exit status 1 when a kind takes more than VictoriaMetrics needs for it.
"""
import argparse, json, math, os, random, shutil, signal, subprocess, sys, tempfile, time, urllib.request
from process import port

DAY, STEP, SERIES = 86_400_000, 15_000, 200

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--peers", required=True)
arguments.add_argument("--nightbell", default="target/release/nightbell")
arguments.add_argument("--kinds", nargs="+", default=["counters", "gauges", "factor", "host"])
arguments.add_argument("--recorded")
arguments.add_argument("--seconds", type=int, default=600)
arguments.add_argument("--keep", help="a folder in which all stores stay")
options = arguments.parse_args()
peers, nightbell = os.path.abspath(options.peers), os.path.abspath(options.nightbell)
work = os.path.abspath(options.keep) if options.keep else tempfile.mkdtemp(prefix="nightbell-bytes-")
midnight = int(time.time() * 1000) // DAY * DAY - DAY


def made(kind):
    """A JSON object for each series, as VictoriaMetrics and `history import` take them."""
    chance = random.Random(kind)
    for number in range(SERIES):
        value, values = chance.randrange(10**9) if kind == "counters" else 4096 * 100_000, []
        if kind == "factor":
            value = 1500 * chance.randrange(10**6, 10**7)
        for _ in range(DAY // STEP):
            if kind == "counters":
                value += chance.randrange(100_000)
            elif kind == "gauges":
                value += 4096 * chance.randrange(-32, 33)
            elif number % 2:
                value += 1500 * chance.randrange(1000)
            else:
                value += 1500 * round(chance.gauss(0, 100))
            values.append(value)
        name = {"counters": "c_total", "gauges": "g_bytes", "factor": "f"}[kind]
        metric = {"__name__": name, "instance": f"i{number % 10}", "n": str(number // 10)}
        yield json.dumps({"metric": metric, "values": values, "timestamps": list(range(midnight, midnight + DAY, STEP))})


def recorded(folder):
    """What the host collector has recorded, exported by nightbell."""
    history = options.recorded
    if not history:
        history = f"{folder}/recording/history"
        os.makedirs(f"{folder}/recording")
        with open(f"{folder}/recording/nightbell.yml", "w") as f:
            f.write(f"global: {{scrape_interval: 1s}}\ncollectors: {{host: {{}}}}\nstorage: {{path: {history}}}\n")
        command = [nightbell, "--config", f"{folder}/recording/nightbell.yml", "--state-dir", f"{folder}/recording/state", "--listen", f"127.0.0.1:{port()}"]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(options.seconds)
        child.send_signal(signal.SIGTERM)
        child.wait(30)
    # A copy without the lock, so that the one who records may go on.
    shutil.copytree(history, f"{folder}/copy/history")
    with open(f"{folder}/all.jsonl", "wb") as f:
        subprocess.run([nightbell, "history", "export", "--format", "json", "--state-dir", f"{folder}/copy"], stdout=f, check=True)
    with open(f"{folder}/all.jsonl") as f:
        for line in f:
            series = json.loads(line)
            if not series["metric"].get("__name__", "").startswith("node_"):
                continue
            # So that it lies in one day, whose block is complete.
            kept = [(v, t - series["timestamps"][0] % DAY) for v, t in zip(series["values"], series["timestamps"])]
            base = kept[0][1]
            kept = [(v, midnight + t - base) for v, t in kept if t - base < DAY]
            series["values"], series["timestamps"] = [v for v, _ in kept], [t for _, t in kept]
            yield json.dumps(series)
    shutil.rmtree(f"{folder}/copy")
    os.remove(f"{folder}/all.jsonl")


def size(folder):
    return sum(os.path.getsize(os.path.join(path, name)) for path, _, names in os.walk(folder) for name in names)


def by_nightbell(folder):
    with open(f"{folder}/nightbell.yml", "w") as f:
        f.write(f"storage: {{path: {folder}/history, retention: 90d}}\n")
    command = [nightbell, "history", "import", "--format", "json", "--config", f"{folder}/nightbell.yml", f"{folder}/samples.jsonl"]
    print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip(), flush=True)
    return size(f"{folder}/history")


def by_victoria(folder):
    number = port()
    with open(f"{folder}/victoria.log", "wb") as log:
        child = subprocess.Popen([f"{peers}/victoria-metrics", f"-storageDataPath={folder}/victoria", f"-httpListenAddr=127.0.0.1:{number}", "-retentionPeriod=100d",
                                  "-import.maxLineLen=100MB"], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{number}"
    try:
        wait(f"{url}/health")
        with open(f"{folder}/samples.jsonl", "rb") as f:
            while part := f.readlines(8 << 20):
                urllib.request.urlopen(f"{url}/api/v1/import", b"".join(part)).read()
        urllib.request.urlopen(f"{url}/internal/force_flush").read()
        urllib.request.urlopen(f"{url}/internal/force_merge").read()
        settled = time.time() + 15
        while time.time() < settled:
            time.sleep(1)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(60)
    return size(f"{folder}/victoria") - sum(size(f"{folder}/victoria/{part}") for part in ("cache", "tmp"))


def by_prometheus(folder):
    """One block of a day, without what a running server has beside it."""
    with open(f"{folder}/samples.jsonl") as f, open(f"{folder}/samples.om", "w") as out:
        for line in f:
            series = json.loads(line)
            metric = dict(series["metric"])
            name = metric.pop("__name__")
            quoted = ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in metric.items())
            for value, at in zip(series["values"], series["timestamps"]):
                value = "NaN" if value is None else {"Infinity": "+Inf", "-Infinity": "-Inf"}.get(value, value)
                out.write(f"{name}{{{quoted}}} {value} {at // 1000}.{at % 1000:03}\n")
        out.write("# EOF\n")
    subprocess.run((f"{peers}/promtool", "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h", f"{folder}/samples.om", f"{folder}/prometheus"),
                   check=True, stdout=subprocess.DEVNULL)
    os.remove(f"{folder}/samples.om")
    return size(f"{folder}/prometheus")


def wait(url):
    end = time.time() + 60
    while True:
        try:
            return urllib.request.urlopen(url, timeout=10).read()
        except OSError:
            if time.time() > end:
                raise
            time.sleep(0.1)


def main():
    missed = []
    print(f"{'bytes a sample':<12}{'samples':>12}{'nightbell':>12}{'Prometheus':>12}{'VictoriaM.':>12}{'entropy':>10}", flush=True)
    for kind in options.kinds:
        folder = os.path.join(work, kind)
        os.makedirs(folder, exist_ok=True)
        count = 0
        with open(f"{folder}/samples.jsonl", "w") as f:
            for line in recorded(folder) if kind == "host" else made(kind):
                f.write(line + "\n")
                count += line.count(",", line.index('"timestamps"')) + 1
        found = [by(folder) / count for by in (by_nightbell, by_prometheus, by_victoria)]
        entropy = {"counters": math.log2(100_000) / 8, "gauges": math.log2(65) / 8}.get(kind)
        print(f"{kind:<12}{'':<2}{count:>12}" + "".join(f"{one:>12.3f}" for one in found) + (f"{entropy:>10.3f}" if entropy else ""), flush=True)
        if found[0] > found[2]:
            missed.append(f"{kind}: {found[0]:.3f} bytes a sample, VictoriaMetrics {found[2]:.3f}")
    return missed


try:
    failed = main()
finally:
    if not options.keep:
        shutil.rmtree(work, ignore_errors=True)
if failed:
    sys.exit("missed: " + "; ".join(failed))
