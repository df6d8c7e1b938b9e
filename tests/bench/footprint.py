#!/usr/bin/env python3
"""Memory, CPU, start-up and /metrics latency of nightbell beside the stack that it replaces, in one run on this machine.

Both sides watch the same things: this host, a PostgreSQL, a Redis, a Chroma (nightbell only: the stack has no exporter for it), two LLM
endpoints (the stack: blackbox probes of the same URLs), 50 rules, everything every 15 seconds. The stack is Prometheus, Alertmanager,
node_exporter, postgres_exporter, redis_exporter and blackbox_exporter.

usage: tests/bench/footprint.py --peers DIR [--nightbell target/release/nightbell] [--seconds 120] [--tools target/test-tools] [--full] [--only KINDS]
`--full` adds ten logs (each written to), five queries, five JSON endpoints, three backups, ten jobs and twenty containers on nightbell's side, and
measures nightbell alone; `--only logs,queries,json,backups,jobs,containers` adds these kinds alone. Allowed: 28 MB, 0.12 CPU-seconds a minute.
DIR holds the programs prometheus, prometheus-alertmanager, prometheus-node-exporter, prometheus-postgres-exporter,
prometheus-redis-exporter, prometheus-blackbox-exporter. PostgreSQL and redis-server are Debian's, Chroma is in the tools' environment.
"""
import argparse, glob, http.server, json, os, shutil, signal, socket, subprocess, sys, tempfile, threading, time, urllib.request
from process import cpu, port, resident

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--peers")
arguments.add_argument("--full", action="store_true", help="what stands in files, rows, JSON and schedules, too; nightbell alone")
arguments.add_argument("--only", default="logs,queries,json,backups,jobs,containers", help="with --full: which of it")
arguments.add_argument("--nightbell", default="target/release/nightbell")
arguments.add_argument("--seconds", type=int, default=120, help="how long each side is measured, after 35 s of warming up")
arguments.add_argument("--tools", default=os.environ.get("NIGHTBELL_TEST_TOOLS", "target/test-tools"))
options = arguments.parse_args()
if not options.peers and not options.full:
    arguments.error("--peers is needed")
work = tempfile.mkdtemp(prefix="nightbell-bench-")
os.chmod(work, 0o755)
processes = []


def start(*command, env=None, user=None, cwd=None):
    log = open(os.path.join(work, "log.txt"), "ab")
    child = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(env or {})}, user=user, cwd=cwd or work)
    processes.append(child)
    return child


def wait(url, limit=60):
    end = time.time() + limit
    while time.time() < end:
        try:
            return urllib.request.urlopen(url, timeout=2).read()
        except Exception:
            time.sleep(0.05)
    sys.exit(f"{url} does not answer; see {work}/log.txt")


def wait_port(number, limit=60):
    end = time.time() + limit
    while time.time() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", number)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"port {number} does not open; see {work}/log.txt")


def measure(children):
    before = [cpu(c) for c in children]
    begin, peak = time.time(), 0.0
    while time.time() - begin < options.seconds:
        time.sleep(1)
        peak = max(peak, sum(resident(c) for c in children))
    used = sum(cpu(c) for c in children) - sum(before)
    return peak, used * 60 / (time.time() - begin)


def latencies(url, count=400):
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        body = urllib.request.urlopen(url, timeout=10).read()
        times.append(time.perf_counter() - begin)
    times.sort()
    return times[len(times) // 2], times[int(len(times) * 0.99)], len(body)


def json_server(content):
    """Answers every request with this content; returns the port."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def llm():
    return json_server({"data": [{"id": f"model-{i}"} for i in range(30)]})


def databases():
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
    data, pg, user = os.path.join(work, "pg"), port(), "postgres" if os.geteuid() == 0 else None
    os.makedirs(data)
    if user:
        shutil.chown(data, user)
    subprocess.run([f"{binaries}/initdb", "-D", data, "-A", "trust", "-U", "postgres"], check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")
    start(f"{binaries}/postgres", "-D", data, "-p", str(pg), "-k", data, "-c", "listen_addresses=127.0.0.1", user=user, cwd="/")
    redis, chroma = port(), port()
    start("redis-server", "--port", str(redis), "--save", "", "--bind", "127.0.0.1")
    start(os.path.join(os.path.abspath(options.tools), "venv/bin/chroma"), "run", "--host", "127.0.0.1", "--port", str(chroma), "--path", os.path.join(work, "chroma"))
    for number in (pg, redis, chroma):
        wait_port(number)
    return pg, redis, chroma


def fifty_rules(path):
    shapes = [
        "1 - avg by (instance) (rate(node_cpu_seconds_total{{mode=\"idle\"}}[5m])) > 0.9{i}",
        "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes < 0.0{i}",
        "predict_linear(node_filesystem_avail_bytes[1h], 4 * 3600) < -{i}",
        "sum by (datname) (pg_stat_activity_count) > 9{i}",
        "rate(redis_commands_processed_total[5m]) > 1000{i}",
    ]
    with open(path, "w") as f:
        f.write("groups:\n- name: fifty\n  rules:\n")
        for i in range(50):
            expr = shapes[i % 5].format(i=i).replace("'", "''")
            f.write(f"  - alert: Bench{i}\n    expr: '{expr}'\n    for: 1m\n    labels: {{severity: warning}}\n")


def stack(pg, redis, urls):
    node, postgres, redis_exporter, blackbox, am, prometheus = (port() for _ in range(6))
    peers = os.path.abspath(options.peers)
    children = [
        start(f"{peers}/prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{node}"),
        start(f"{peers}/prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{postgres}", env={"DATA_SOURCE_NAME": f"postgresql://postgres@127.0.0.1:{pg}/postgres?sslmode=disable"}),
        start(f"{peers}/prometheus-redis-exporter", "-redis.addr", f"redis://127.0.0.1:{redis}", "-web.listen-address", f"127.0.0.1:{redis_exporter}"),
    ]
    with open(os.path.join(work, "blackbox.yml"), "w") as f:
        f.write("modules: {http: {prober: http, timeout: 5s}}\n")
    children.append(start(f"{peers}/prometheus-blackbox-exporter", f"--web.listen-address=127.0.0.1:{blackbox}", "--config.file=blackbox.yml"))
    with open(os.path.join(work, "am.yml"), "w") as f:
        f.write("route: {receiver: none}\nreceivers: [{name: none}]\n")
    children.append(start(f"{peers}/prometheus-alertmanager", "--config.file=am.yml", f"--web.listen-address=127.0.0.1:{am}", "--cluster.listen-address=", "--storage.path=am"))
    with open(os.path.join(work, "prometheus.yml"), "w") as f:
        f.write("global: {scrape_interval: 15s, evaluation_interval: 15s}\nrule_files: [rules.yml]\n")
        f.write(f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{am}']}}]}}]}}\nscrape_configs:\n")
        for job, number in (("node", node), ("postgres", postgres), ("redis", redis_exporter)):
            f.write(f"- {{job_name: {job}, static_configs: [{{targets: ['127.0.0.1:{number}']}}]}}\n")
        for index, url in enumerate(urls):
            f.write(f"- {{job_name: llm{index}, metrics_path: /probe, params: {{module: [http], target: ['{url}/models']}}, static_configs: [{{targets: ['127.0.0.1:{blackbox}']}}]}}\n")
    children.append(start(f"{peers}/prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", f"--web.listen-address=127.0.0.1:{prometheus}"))
    wait(f"http://127.0.0.1:{prometheus}/-/ready")
    return children, f"http://127.0.0.1:{node}/metrics"


def written(paths):
    """Writes ten lines a second into each log."""
    number = 0
    while os.path.isdir(work):
        for path in paths:
            with open(path, "a") as log:
                for _ in range(10):
                    level = "ERROR" if number % 100 == 0 else "INFO"
                    log.write(f"2026-11-30 12:00:{number % 60:02d},{number % 1000:03d} {level} app.api request {number} of user {number * 7} took {number % 97} ms\n")
                    number += 1
        time.sleep(1)


def state():
    """A JSON endpoint of ten parts."""
    return json_server({"status": "healthy", "services": {f"part{n}": {"status": "up", "responseTime": n} for n in range(10)}})


def containers(root):
    """Twenty containers as cgroup v2 shows them."""
    os.makedirs(root)
    with open(os.path.join(root, "cgroup.controllers"), "w") as f:
        f.write("cpu io memory pids\n")
    files = {
        "cpu.stat": "usage_usec 2500000\nuser_usec 1500000\nsystem_usec 1000000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 300000\n",
        "cpu.max": "50000 100000\n", "memory.current": "1000000\n", "memory.max": "2000000\n", "memory.swap.current": "4096\n",
        "memory.stat": "anon 600000\nfile 300000\nkernel 100000\ninactive_file 200000\nactive_file 100000\n",
        "memory.events": "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n",
        "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n", "pids.current": "7\n", "cgroup.procs": f"{os.getpid()}\n",
    }
    for number in range(20):
        scope = os.path.join(root, "system.slice", f"docker-{number:064x}.scope")
        os.makedirs(scope)
        for name, text in files.items():
            with open(os.path.join(scope, name), "w") as f:
                f.write(text)


def full(kinds, pg):
    """The sections of what stands in files, rows, JSON and schedules, and the queries of PostgreSQL."""
    text, queries = "", ""
    if "logs" in kinds:
        os.makedirs(os.path.join(work, "logs"))
        paths = [os.path.join(work, "logs", f"{n}.log") for n in range(10)]
        for path in paths:
            open(path, "w").close()
        threading.Thread(target=written, args=(paths,), daemon=True).start()
        text += "  log_file:\n" + "".join(f"  - {{name: log{n}, path: '{path}', count: {{requests: {{contains: request}}, slow: {{regex: 'took 9[0-9] ms'}}}}}}\n" for n, path in enumerate(paths))
    if "queries" in kinds:
        queries = ", queries: [" + ", ".join(f"{{name: q{n}, sql: 'SELECT datname, oid::bigint AS number, {n} AS n FROM pg_database', labels: [datname]}}" for n in range(5)) + "]"
    if "json" in kinds:
        number = state()
        text += "  json_api:\n" + "".join(
            f"  - {{name: json{n}, url: 'http://127.0.0.1:{number}/{n}', metrics: [{{name: app_component_up, for_each: services, value: status, labels: {{component: $key}}}}, {{name: part_seconds, for_each: services, value: responseTime, labels: {{part: $key}}}}]}}\n" for n in range(5))
    if "backups" in kinds:
        os.makedirs(os.path.join(work, "backups"))
        script = "for n in 1 2 3; do for d in 1 2 3 4 5 6 7; do { echo '-- MySQL dump 10.13'; seq 20000; echo '-- Dump completed'; } | gzip > $n-$d.sql.gz; done; done"
        subprocess.run(["sh", "-c", script], check=True, cwd=os.path.join(work, "backups"))
        text += "  backup:\n" + "".join(f"  - {{name: backup{n}, files: '{work}/backups/{n}-*.sql.gz', every: 1d, keep: 7}}\n" for n in (1, 2, 3))
    if "jobs" in kinds:
        text += "  job:\n" + "".join(f"  - {{name: job{n}, schedule: '{n} 2 * * *', timezone: Asia/Shanghai}}\n" for n in range(10))
    if "containers" in kinds:
        containers(os.path.join(work, "cgroup"))
        text += f"  container: {{root: '{work}/cgroup'}}\n"
    return text, queries


def ours(pg, redis, chroma, urls):
    number = port()
    more, queries = full(options.only.split(",") if options.full else [], pg)
    with open(os.path.join(work, "nightbell.yml"), "w") as f:
        f.write("global: {scrape_interval: 15s, evaluation_interval: 15s}\nrule_files: [rules.yml]\nrules: {shipped: false}\ncollectors:\n  host: {}\n")
        f.write(f"  postgres: [{{name: pg, dsn: 'postgresql://postgres@127.0.0.1:{pg}/postgres'{queries}}}]\n  redis: [{{name: redis, url: 'redis://127.0.0.1:{redis}'}}]\n")
        f.write(f"  vector_store: [{{name: chroma, url: 'http://127.0.0.1:{chroma}'}}]\n  llm_provider:\n")
        for index, url in enumerate(urls):
            f.write(f"  - {{name: llm{index}, provider: compatible, base_url: '{url}', api_key: none}}\n")
        f.write(more)
    begin = time.perf_counter()
    child = start(os.path.abspath(options.nightbell), "--config", "nightbell.yml", "--state-dir", "state", "--listen", f"127.0.0.1:{number}")
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{number}/-/ready", timeout=2).read()
            break
        except Exception:
            if child.poll() is not None or time.perf_counter() - begin > 30:
                sys.exit(f"nightbell does not start; see {work}/log.txt")
            time.sleep(0.002)
    return child, time.perf_counter() - begin, f"http://127.0.0.1:{number}/metrics"


def main():
    pg, redis, chroma = databases()
    urls = [f"http://127.0.0.1:{llm()}/v1" for _ in range(2)]
    fifty_rules(os.path.join(work, "rules.yml"))
    if options.full:
        print(f"figures in about {95 + options.seconds} s", flush=True)
        child, ready, _ = ours(pg, redis, chroma, urls)
        # The backups are read through at first.
        time.sleep(95)
        memory, used = measure([child])
        print(f"with {options.only}: peak resident memory {memory:.1f} MB (28 are allowed), {used:.3f} CPU-seconds a minute (0.12), {ready * 1e3:.0f} ms to the first evaluation")
        return
    print(f"starting both sides; figures in about {35 + 2 * options.seconds} s", flush=True)
    peers, node_url = stack(pg, redis, urls)
    child, ready, our_url = ours(pg, redis, chroma, urls)
    time.sleep(35)
    their_memory, their_cpu = measure(peers)
    our_memory, our_cpu = measure([child])
    node, mine = latencies(node_url), latencies(our_url)
    size = os.path.getsize(options.nightbell) / 1e6
    row = "{:<44} {:>14} {:>14} {:>8}".format
    print(row("", "nightbell", "six processes", "ratio"))
    print(row("peak resident memory, MB", f"{our_memory:.1f}", f"{their_memory:.1f}", f"{our_memory / their_memory:.2f}"))
    print(row("CPU-seconds a minute", f"{our_cpu:.3f}", f"{their_cpu:.3f}", f"{our_cpu / their_cpu:.2f}"))
    print(row("/metrics median, ms (theirs: node_exporter)", f"{mine[0] * 1e3:.2f}", f"{node[0] * 1e3:.2f}", f"{mine[0] / node[0]:.2f}"))
    print(row("/metrics 99th percentile, ms", f"{mine[1] * 1e3:.2f}", f"{node[1] * 1e3:.2f}", f"{mine[1] / node[1]:.2f}"))
    print(row("/metrics page, bytes", str(mine[2]), str(node[2]), ""))
    print(row("start to first evaluation, ms", f"{ready * 1e3:.0f}", "", ""))
    print(row("release binary, MB", f"{size:.1f}", "", ""))


try:
    main()
finally:
    for child in processes:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    for child in processes:
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
    shutil.rmtree(work, ignore_errors=True)
