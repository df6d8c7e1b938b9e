#!/usr/bin/env python3
"""nightbell beside the exporters of logs, SQL, processes, probes and pushes, on the same input in one run: the same numbers?

usage: tests/bench/peers_files.py [--nightbell target/release/nightbell] [--only logs,speed,sql,mysql,process,probe,push,host] [--megabytes 300]

The peers are Debian's packages mtail, prometheus-sql-exporter, prometheus-mysqld-exporter, prometheus-process-exporter,
prometheus-blackbox-exporter, prometheus-pushgateway and prometheus-node-exporter; PostgreSQL and MariaDB are real. Each number that a peer shows
and that does not move by itself is compared; what nightbell does not show, or shows differently, is printed. `speed` reads one log with both and
compares CPU time and memory. Exit status 1 when a number differs, or when a log is not read twice as fast as by mtail.
"""
import argparse, glob, http.server, json, os, re, shutil, subprocess, sys, tempfile, threading, time, urllib.request
from process import cpu, port, resident

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--nightbell", default="target/release/nightbell")
arguments.add_argument("--only", default="logs,speed,sql,mysql,process,probe,push,host")
arguments.add_argument("--megabytes", type=int, default=300, help="size of the log of `speed`")
options = arguments.parse_args()
work = tempfile.mkdtemp(prefix="nightbell-peers-")
os.chmod(work, 0o755)
processes, wrong = [], []
SERIES = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def path(name):
    return os.path.join(work, name)


def write(name, text):
    with open(path(name), "w") as out:
        out.write(text)
    return path(name)


def start(*command, env=None, user=None):
    with open(path("log.txt"), "ab") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(env or {})}, user=user, cwd=work)
    processes.append(child)
    return child


def get(url, **more):
    with urllib.request.urlopen(urllib.request.Request(url, **more), timeout=10) as answer:
        return answer.read().decode()


def until(what, holds, limit=60):
    deadline = time.time() + limit
    while time.time() < deadline:
        try:
            found = holds()
            if found:
                return found
        except (OSError, subprocess.CalledProcessError):
            pass
        time.sleep(0.1)
    with open(path("log.txt")) as log:
        sys.exit(f"not within {limit} s: {what}\n" + "".join(log.readlines()[-15:]))


def read(text):
    """Series to value: a name and its sorted labels."""
    found = {}
    for line in text.splitlines():
        match = SERIES.match(line)
        if match:
            name, labels, value = match.groups()
            # An empty label is none.
            pairs = [pair for pair in LABEL.findall(labels or "") if pair[1]]
            found[(name, tuple(sorted(pairs)))] = float(value)
    return found


def nightbell(name, collectors):
    """Starts nightbell; returns it, and how its page is read without the labels that name the target."""
    number = port()
    config = write(f"{name}.yml", "global: {scrape_interval: 1s, scrape_timeout: 1s}\nrules: {shipped: false}\ncollectors:\n" + collectors)
    child = start(os.path.abspath(options.nightbell), "--config", config, "--state-dir", path(f"{name}.state"), "--listen", f"127.0.0.1:{number}")

    def page():
        bare = {}
        for (metric, labels), value in read(get(f"http://127.0.0.1:{number}/metrics")).items():
            own = {"instance", "job"} if name != "push" else set()
            bare[(metric, tuple(pair for pair in labels if pair[0] not in own))] = value
        return bare

    until(f"nightbell for {name}", lambda: get(f"http://127.0.0.1:{number}/-/ready"))
    return child, page, number


def stop(*children):
    for child in children:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()


def show(series):
    name, labels = series
    return name + ("{" + ", ".join(f'{key}="{value}"' for key, value in labels) + "}" if labels else "")


def same(what, theirs, ours, near=0.0):
    """Compares what a peer shows with what nightbell shows under the same names."""
    different = []
    for series, value in sorted(theirs.items()):
        own = ours.get(series)
        if own is None:
            different.append(f"{show(series)}: {value}, not shown by nightbell")
        elif abs(own - value) > near * max(abs(own), abs(value)) + 1e-9 and not (own != own and value != value):
            different.append(f"{show(series)}: {value}, nightbell {own}")
    print(f"{what}: {len(theirs)} numbers of the peer, {len(theirs) - len(different)} the same", flush=True)
    for line in different[:40]:
        print(f"   {line}")
    if different or not theirs:
        wrong.append(what)


MTAIL = r"""
counter lines by level
counter requests
counter model_errors
histogram took buckets 0.01, 0.05, 0.1, 0.5
/^\d+-\d+-\d+ \S+ (?P<level>[A-Z]+) / {
  lines[$level]++
}
/Request started/ {
  requests++
}
/Model API error|timed out/ {
  model_errors++
}
/ took (?P<seconds>\d+\.\d+) s/ {
  took = $seconds
}
"""


def log_lines(count):
    levels = ["INFO", "INFO", "INFO", "DEBUG", "WARNING", "ERROR"]
    for n in range(count):
        tail = ["Request started", "Model API error: refused", f"took {n % 700 / 1000:.3f} s", "ready"][n % 4]
        yield f"2026-11-30 12:00:{n % 60:02d} {levels[n % 6]} app.api request {n} of user {n * 7}: {tail}\n"


def log_config(file):
    return (
        f"  log_file:\n  - name: app\n    path: '{file}'\n    start: beginning\n    max_bytes: 10GB\n"
        "    format: 'regex: ^\\d+-\\d+-\\d+ \\S+ (?P<level>[A-Z]+) (?:.* took (?P<took>\\d+\\.\\d+) s)?'\n"
        "    count: {requests: {contains: Request started}, model_errors: {regex: 'Model API error|timed out'}}\n"
        "    observe: {took: {field: took, buckets: [0.01, 0.05, 0.1, 0.5]}}\n"
    )


def mtail(file, *more):
    number = port()
    write("app.mtail", MTAIL)
    child = start("mtail", "--progs", path("app.mtail"), "--logs", file, "--port", str(number), "--address", "127.0.0.1", *more)
    return child, lambda: read(get(f"http://127.0.0.1:{number}/metrics"))


def as_ours(page):
    """mtail's numbers under nightbell's names."""
    out = {}
    for (name, labels), value in page.items():
        labels = dict(labels)
        if name == "lines":
            level = labels["level"].lower()
            out[("log_lines_total", (("level", {"warn": "warning"}.get(level, level)),))] = value
        elif name in ("requests", "model_errors"):
            out[("log_matches_total", (("pattern", name),))] = value
        elif name.startswith("took"):
            bound = (("le", labels["le"]),) if "le" in labels else ()
            out[(name.replace("took", "log_field_seconds", 1), tuple(sorted((("field", "took"), *bound))))] = value
    return out


def logs():
    os.makedirs(path("logs"))
    file = path("logs/app.log")
    open(file, "w").close()
    peer, theirs = mtail(file)
    child, ours, _ = nightbell("logs", log_config(file))
    until("mtail", theirs)
    until("a look at the log", lambda: ours().get(("log_files", ())) == 1)
    lines = list(log_lines(40_000))
    for part in range(4):
        with open(file, "a") as out:
            out.writelines(lines[part * 10_000 : (part + 1) * 10_000])
        wanted = (part + 1) * 2_500
        until("mtail's lines", lambda: theirs().get(("requests", (("prog", "app.mtail"),))) == wanted)
        until("nightbell's lines", lambda: ours().get(("log_matches_total", (("pattern", "requests"),))) == wanted)
        if part < 3:
            os.rename(file, f"{file}.{part}")
            open(file, "w").close()
    same("log_file beside mtail, over three rotations", as_ours(theirs()), ours())
    stop(peer, child)


def speed():
    file, block = path("speed.log"), "".join(log_lines(20_000))
    with open(file, "w") as out:
        for _ in range(options.megabytes * 1_000_000 // len(block)):
            out.write(block)
    size = os.path.getsize(file)
    count = size // len(block) * 5_000
    write("app.mtail", MTAIL)
    begun = os.times()
    with open(path("one-shot.txt"), "w") as out:
        subprocess.run(["mtail", "--progs", path("app.mtail"), "--logs", file, "--one_shot", "--one_shot_format", "prometheus"], stdout=out, stderr=subprocess.DEVNULL, check=True, cwd=work)
    ended = os.times()
    theirs = ended.children_user + ended.children_system - begun.children_user - begun.children_system
    child, ours, _ = nightbell("speed", log_config(file))
    until("all lines", lambda: ours().get(("log_matches_total", (("pattern", "requests"),))) == count, 600)
    used, peak = cpu(child), resident(child, "VmHWM")
    with open(path("one-shot.txt")) as page:
        peer = as_ours(read(page.read()))
    if peer:
        same("log_file beside mtail, the whole log", peer, ours())
    stop(child)
    # The same work without fields: levels and patterns, as most logs are watched.
    plain = f"  log_file:\n  - {{name: app, path: '{file}', start: beginning, max_bytes: 10GB, count: {{requests: {{contains: Request started}}, model_errors: {{regex: 'Model API error|timed out'}}}}}}\n"
    child, ours, _ = nightbell("plain", plain)
    until("all lines", lambda: ours().get(("log_matches_total", (("pattern", "requests"),))) == count, 600)
    easy = cpu(child)
    stop(child)
    print(f"{size / 1e6:.0f} MB: mtail {size / 1e6 / theirs:.0f} MB/s of CPU, nightbell {size / 1e6 / used:.0f} with the same fields, {size / 1e6 / easy:.0f} with levels and patterns alone; start included; peak {peak:.0f} MB")
    if used * 2 > theirs:
        wrong.append("speed")


def postgres():
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
    data, number, user = path("pg"), port(), "postgres" if os.geteuid() == 0 else None
    os.makedirs(data)
    if user:
        shutil.chown(data, user)
    subprocess.run([f"{binaries}/initdb", "-D", data, "-A", "trust", "-U", "postgres"], check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")
    child = start(f"{binaries}/postgres", "-D", data, "-p", str(number), "-k", data, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", user=user)
    psql = ["psql", "-h", "127.0.0.1", "-p", str(number), "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-qc"]
    until("PostgreSQL", lambda: subprocess.run([*psql, "SELECT 1"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    subprocess.run([*psql, "CREATE TABLE results (status text, made timestamptz, cost numeric); INSERT INTO results SELECT (ARRAY['done','failed','a \"b\" \\ c'])[1 + n % 3], '2026-11-30 00:00:00+08'::timestamptz + n * interval '1 minute', n / 7.0 FROM generate_series(1, 1000) n"], check=True)
    return child, number


def sql():
    server, number = postgres()
    query = "SELECT status, count(*)::float AS found, sum(cost)::float8 AS cost, extract(epoch FROM max(made))::float AS newest FROM results GROUP BY status"
    write("sql.json", json.dumps({"jobs": [{"name": "own", "interval": "1s", "connections": [f"postgres://postgres@127.0.0.1:{number}/postgres?sslmode=disable"], "queries": [
        {"name": "results", "help": "Results.", "labels": ["status"], "values": ["found", "cost", "newest"], "query": query}]}]}))
    listen = port()
    peer = start("prometheus-sql-exporter", "-config.file", path("sql.json"), "-web.listen-address", f"127.0.0.1:{listen}")
    child, ours, _ = nightbell("sql", f"  postgres:\n  - name: pg\n    dsn: postgres://postgres@127.0.0.1:{number}/postgres\n    queries: [{{name: results, labels: [status], sql: \"{query}\"}}]\n")

    def theirs():
        out = {}
        for (name, labels), value in read(get(f"http://127.0.0.1:{listen}/metrics")).items():
            if name == "sql_results":
                labels = dict(labels)
                out[(f"sql_results_{labels['col']}", (("status", labels["status"]),))] = value
        return out

    until("sql_exporter's rows", theirs)
    until("nightbell's rows", lambda: ("sql_query_success", (("query", "results"),)) in ours())
    same("queries of postgres beside sql_exporter", theirs(), ours(), 1e-12)
    stop(peer, child, server)


# What counts while both look, and each look itself.
MOVING = re.compile(r"_(bytes|time|seconds|waits|requests|reads?|writes?|fsyncs|lsn|pages?|hits|misses|rows)(_|$)|uptime|questions|queries|connections|connects|threads|opened|open_|opens|commands_total|handlers_total|select_scan|sort_|created_tmp|key_|aborted|slow_queries|innodb_(buffer|data|log|os_log|mem|master|row|history|checkpoint|lsn|num)|table_open_cache|subquery|memory|busy_time|cpu_time|access_|feature_|performance_schema_|ssl_|acl_|_statements?|qcache|exporter|scrape|last_|empty_|column_|executed_|binlog|rocksdb|server_audit|wsrep|delayed|flush|prepared|transactions|tc_log")


def mysql():
    data, number = path("mariadb"), port()
    subprocess.run(["mariadb-install-db", "--no-defaults", "--user=root", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", f"--datadir={data}"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = start("mariadbd", "--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-name-resolve", f"--port={number}", f"--socket={data}/s", f"--datadir={data}")
    client = ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(number), "-u", "root", "-e"]
    until("MariaDB", lambda: subprocess.run([*client, "SELECT 1"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    subprocess.run([*client, "CREATE DATABASE shop; CREATE TABLE shop.t (a INT); INSERT INTO shop.t VALUES (1), (2), (3); UPDATE shop.t SET a = 4 WHERE a = 1; DELETE FROM shop.t WHERE a = 2"], check=True)
    listen = port()
    peer = start("prometheus-mysqld-exporter", f"--web.listen-address=127.0.0.1:{listen}", env={"DATA_SOURCE_NAME": f"root@tcp(127.0.0.1:{number})/"})
    child, ours, _ = nightbell("mysql", f"  mysql: [{{name: db, dsn: 'mysql://root@127.0.0.1:{number}/shop'}}]\n")
    theirs = until("mysqld_exporter", lambda: read(get(f"http://127.0.0.1:{listen}/metrics")))
    until("nightbell's look", lambda: ours().get(("mysql_up", ())) == 1)
    own = ours()
    names = {name for name, _ in own}
    mine = {series: value for series, value in theirs.items() if series[0].startswith("mysql_")}
    # Every name that both know, with its labels; of what does not move also the value.
    known = {series: value for series, value in mine.items() if series[0] in names}
    same("mysql beside mysqld_exporter, what does not move", {s: v for s, v in known.items() if not MOVING.search(s[0])}, own)
    # A command that was never run is not shown by nightbell, nor one that the exporter has run since nightbell's look.
    lacking = [show(series) for series in known if series not in own and known[series] and not series[0].startswith("mysql_exporter")]
    lacking = sorted(series for series in lacking if not re.search('command="(admin_commands|show_)', series))
    print(f"   {len(known)} of {len(mine)} series of mysqld_exporter's have a name that nightbell shows; of these {len(lacking)} that are not 0 are absent {lacking[:10]}")
    if lacking:
        wrong.append("mysql labels")
    unknown = sorted({name for name, _ in mine} - names)
    print(f"   names that nightbell does not show: {len(unknown)}, such as {unknown[:12]}")
    stop(peer, child, server)


def process():
    worker = [sys.executable, "-c", "import time, threading\nkeep = bytearray(50 << 20)\nfiles = [open('/dev/null') for _ in range(30)]\n[threading.Thread(target=time.sleep, args=(600,), daemon=True).start() for _ in range(3)]\ntime.sleep(600)", "the-worker"]
    workers = [start(*worker) for _ in range(3)]
    # process-exporter looks at a command line once: it must not be the one before exec.
    until("the workers' threads", lambda: all(len(os.listdir(f"/proc/{one.pid}/task")) == 4 for one in workers))
    write("groups.yml", json.dumps({"process_names": [{"name": "workers", "cmdline": ["the-worker"]}]}))
    listen = port()
    peer = start("prometheus-process-exporter", "-config.path", path("groups.yml"), "-web.listen-address", f"127.0.0.1:{listen}", "-threads=false", "-gather-smaps=false")
    child, ours, _ = nightbell("process", "  host: {processes: [{name: workers, cmdline: the-worker$}]}\n")

    def theirs():
        return {s: v for s, v in read(get(f"http://127.0.0.1:{listen}/metrics")).items() if s[0].startswith("namedprocess_namegroup_")}

    group = (("groupname", "workers"),)
    until("the workers", lambda: theirs().get(("namedprocess_namegroup_num_threads", group)) == 12)
    until("the workers in nightbell", lambda: ours().get(("namedprocess_namegroup_num_threads", group)) == 12)
    known = {series: value for series, value in theirs().items() if series[0] in {name for name, _ in ours()}}
    # What they did before the first look counts in neither.
    same("groups of processes beside process-exporter", {s: v for s, v in known.items() if not re.search("cpu|faults|context|start_time|_bytes", s[0])}, ours())
    same("their memory, to a hundredth", {s: v for s, v in known.items() if "memory" in s[0]}, ours(), 0.01)
    same("their start, to the second", {s: v for s, v in known.items() if "start_time" in s[0]}, ours(), 1e-9)
    print(f"   of {len(theirs())} series of process-exporter's {len(theirs()) - len(known)} have a name that nightbell does not show: {sorted({s[0] for s in theirs()} - {s[0] for s in known})}")
    stop(peer, child, *workers)


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
            return
        body = b"not well" if self.path == "/bad" else b'{"status": "healthy", "words": "all is well"}'
        self.send_response(503 if self.path == "/bad" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def probe():
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    modules = {"modules": {
        "http": {"prober": "http", "timeout": "3s", "http": {"preferred_ip_protocol": "ip4"}},
        "words": {"prober": "http", "timeout": "3s", "http": {"preferred_ip_protocol": "ip4", "fail_if_body_not_matches_regexp": ["healthy"]}},
        "tcp": {"prober": "tcp", "timeout": "3s", "tcp": {"preferred_ip_protocol": "ip4"}},
        "talk": {"prober": "tcp", "timeout": "3s", "tcp": {"preferred_ip_protocol": "ip4", "query_response": [{"send": "GET /good HTTP/1.0\r\n\r\n"}, {"expect": "^HTTP/1.0 200"}]}},
        "icmp": {"prober": "icmp", "timeout": "3s", "icmp": {"preferred_ip_protocol": "ip4"}},
    }}
    file, listen = write("blackbox.yml", json.dumps(modules)), port()
    peer = start("prometheus-blackbox-exporter", f"--config.file={file}", f"--web.listen-address=127.0.0.1:{listen}")
    child, _, number = nightbell("probe", f"  host: {{}}\nprobe: {{modules_file: '{file}'}}\n")
    until("blackbox_exporter", lambda: get(f"http://127.0.0.1:{listen}/metrics"))
    here = f"127.0.0.1:{site.server_address[1]}"
    for module, target in [("http", f"http://{here}/good"), ("http", f"http://{here}/bad"), ("http", f"http://{here}/moved"), ("words", f"http://{here}/good"),
                           ("words", f"http://{here}/bad"), ("tcp", here), ("tcp", "127.0.0.1:1"), ("talk", here), ("icmp", "127.0.0.1"), ("http", "127.0.0.1:1")]:
        question = f"/probe?module={module}&target={target}"
        theirs = read(get(f"http://127.0.0.1:{listen}{question}"))
        ours = read(get(f"http://127.0.0.1:{number}{question}"))
        # Times differ; that there are the same ones does not.
        moving = {s: v for s, v in theirs.items() if "duration" in s[0] or "lookup_time" in s[0] or "ip_addr_hash" in s[0]}
        same(f"/probe {module} {target.replace(here, 'SITE')} beside blackbox_exporter", {s: v for s, v in theirs.items() if s not in moving}, ours)
        if lacking := sorted(show(s) for s in moving if s not in ours):
            wrong.append("probe")
            print(f"   not shown by nightbell: {lacking}")
    stop(peer, child)
    site.shutdown()


def push():
    listen = port()
    peer = start("prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{listen}")
    child, ours, number = nightbell("push", "  job: [{name: pushes, pushgateway: true}]\n")
    until("Pushgateway", lambda: get(f"http://127.0.0.1:{listen}/-/ready"))
    until("the collector", lambda: any(name == "job_push_groups" for name, _ in ours()))
    pushes = [
        ("PUT", "/metrics/job/nightly", "# TYPE a counter\na{x=\"1\"} 3\n# TYPE rows gauge\nrows 12.5\n"),
        ("POST", "/metrics/job/nightly", "# TYPE rows gauge\nrows 13\n# TYPE new gauge\nnew{q=\"\\\"\\\\\"} NaN\n"),
        ("PUT", "/metrics/job/nightly/instance/one/db@base64/L3Zhci9kYg", "# TYPE took histogram\ntook_bucket{le=\"1\"} 2\ntook_bucket{le=\"+Inf\"} 3\ntook_sum 4.5\ntook_count 3\n"),
        ("PUT", "/metrics/job/gone", "here 1\n"),
        ("DELETE", "/metrics/job/gone", None),
        ("PUT", "/metrics/job@base64/5aSc", "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 2\ns_count 3\n"),
        ("PUT", "/metrics/job/broken", "no metric at all }\n"),
        ("PUT", "/metrics/job/stamped", "a 1 1700000000000\n"),
        ("POST", "/metrics/job/nightly", "# TYPE rows counter\nrows 13\n"),
    ]
    for method, where, body in pushes:
        answers = []
        for base in (listen, number):
            try:
                with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{base}{where}", method=method, data=body and body.encode()), timeout=10) as answer:
                    answers.append(answer.status)
            except urllib.error.HTTPError as error:
                answers.append(error.code)
        if answers[0] != answers[1]:
            wrong.append("push")
            print(f"   {method} {where}: Pushgateway answers {answers[0]}, nightbell {answers[1]}")

    def theirs():
        page = read(get(f"http://127.0.0.1:{listen}/metrics"))
        return {s: v for s, v in page.items() if dict(s[1]).get("job") and s[0] not in ("push_time_seconds", "push_failure_time_seconds")}

    def bare():
        # Without a label instance Pushgateway has an empty one, which is none.
        return {(name, tuple(pair for pair in labels if pair[1])): value for (name, labels), value in ours().items()}

    wanted = {(name, tuple(pair for pair in labels if pair[1])): value for (name, labels), value in theirs().items()}
    until("what was pushed", lambda: any(name == "took_count" for name, _ in bare()))
    time.sleep(2)
    same("pushes beside Pushgateway", wanted, bare())
    stop(peer, child)


def host():
    parts = ["systemd", "processes", "cgroups", "ethtool", "qdisc", "softirqs", "zoneinfo", "tcpstat", "interrupts", "buddyinfo", "ksmd", "slabinfo", "lnstat", "meminfo_numa"]
    text = subprocess.run(["prometheus-node-exporter", "--help"], capture_output=True, text=True, check=False)
    offered = [name for name in parts if f"--collector.{name} " in text.stdout + text.stderr or f"--collector.{name}\n" in text.stdout + text.stderr]
    listen = port()
    peer = start("prometheus-node-exporter", "--collector.disable-defaults", *[f"--collector.{name}" for name in offered], f"--web.listen-address=127.0.0.1:{listen}")
    child, ours, _ = nightbell("host", f"  host: {{enable: [{', '.join(parts)}]}}\n")
    theirs = until("node_exporter", lambda: read(get(f"http://127.0.0.1:{listen}/metrics")))

    def whole():
        page = ours()
        names = {name for name, _ in page}
        return page if {"node_processes_pids", "node_qdisc_backlog", "node_ethtool_info"} <= names else None

    own = until("a look", whole)
    asked = {s: v for s, v in theirs.items() if s[0].startswith("node_") and not re.match("node_(scrape|exporter)", s[0])}
    lacking = sorted({show(s) for s in asked if s not in own})
    print(f"host: {len(asked)} series of node_exporter's opt-in collectors {offered}; not shown by nightbell: {len(lacking)}")
    for line in lacking[:60]:
        print(f"   {line}")
    # States of connections, processes and threads come and go.
    if any("_state" not in series for series in lacking):
        wrong.append("host")
    still = re.compile("node_(cgroups|ethtool_info|network_|processes_max|zoneinfo_(managed|present|spanned|protection|high|low|min)|ksmd)")
    same("what does not move of them", {s: v for s, v in asked.items() if still.match(s[0])}, own)
    stop(peer, child)


try:
    for name in options.only.split(","):
        {"logs": logs, "speed": speed, "sql": sql, "mysql": mysql, "process": process, "probe": probe, "push": push, "host": host}[name]()
finally:
    for child in processes:
        if child.poll() is None:
            child.kill()
        child.wait()
    shutil.rmtree(work, ignore_errors=True)
print("differs: " + ", ".join(dict.fromkeys(wrong)) if wrong else "all the same")
sys.exit(1 if wrong else 0)
