#!/usr/bin/env python3
"""What the engine's benchmark measures with: a page of many series, rules over it, a heavy rule test, and stamped history.

usage: synthetic.py target PORT SERIES         a scrape target of about SERIES series, its values changing from scrape to scrape
       synthetic.py rules COUNT [INTERVAL]     rules over that page: a tenth to an eighth of them aggregate its largest family
       synthetic.py test DIR SERIES STEPS      DIR/rules.yml and DIR/test.yml, in promtool's format
"""
import http.server, itertools, os, random, sys, threading

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


def page(series, step):
    """Half counters, a quarter gauges, a quarter histograms."""
    chance, out = random.Random(step), ["# HELP app_requests_total Requests.\n# TYPE app_requests_total counter\n"]
    counters, gauges = series // 2, series // 4
    for i in range(counters):
        method, code = "GET" if i % 3 else "POST", 200 if i % 10 else 500
        out.append(f'app_requests_total{{route="/r{i % 200}",method="{method}",code="{code}",pod="p{i // 200}"}} {step * (i % 97 + 1) * 15 + i}\n')
    out.append("# HELP app_gauge A gauge.\n# TYPE app_gauge gauge\n")
    for i in range(gauges):
        out.append(f'app_gauge{{shard="s{i % 100}",tenant="t{i // 100}"}} {chance.random() * 100:.4f}\n')
    out.append("# HELP app_latency_seconds Latency.\n# TYPE app_latency_seconds histogram\n")
    for i in range((series - counters - gauges) // 12):
        total, name = step * 100 + i, "app_latency_seconds"
        for k, bound in enumerate(BOUNDS):
            out.append(f'{name}_bucket{{route="/r{i}",le="{bound}"}} {total * (k + 1) // 10}\n')
        out.append(f'{name}_bucket{{route="/r{i}",le="+Inf"}} {total}\n{name}_sum{{route="/r{i}"}} {total * 0.2:.3f}\n{name}_count{{route="/r{i}"}} {total}\n')
    return "".join(out).encode()


def history(series, start, step, first, count):
    """Samples `first` to `first + count` of `series` counters, gauges and buckets each, stamped from `start` (ms) on."""
    out = []
    for kind in ("counter", "gauge", "histogram"):
        for i in range(series):
            chance = random.Random(i * 1_000_003 + first)
            if kind == "counter":
                name = f'demo_requests_total{{route="/r{i % 50}",code="{500 if i % 10 == 0 else 200}",pod="p{i // 50}"}}'
            elif kind == "gauge":
                name = f'demo_usage{{host="h{i // 10}",volume="v{i % 10}"}}'
            else:
                name = f'demo_latency_seconds_bucket{{route="/r{i // 10}",le="{(*BOUNDS, "+Inf")[i % 10]}"}}'
            for n in range(first, first + count):
                value = n * (i % 97 + 1) * 15 + i if kind == "counter" else round(chance.random() * 100, 3) if kind == "gauge" else n * (i % 10 + 1)
                out.append(f"{name} {value} {start + n * step}\n")
    return "".join(out).encode()


def serve(port, pages):
    """Serves one page after another, each path with a turn of its own; empty ones when `pages` has ended."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            with lock:
                body = next(turns.setdefault(self.path, pages()), b"")
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    turns, lock = {}, threading.Lock()
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


SHAPES = (
    'sum by (route) (rate(app_requests_total{{code="500",route="/r{i}"}}[1m])) / sum by (route) (rate(app_requests_total{{route="/r{i}"}}[1m])) > 0.05',
    'histogram_quantile(0.95, sum by (le) (rate(app_latency_seconds_bucket{{route="/r{i}"}}[1m]))) > 2',
    'avg by (tenant) (app_gauge{{shard="s{j}"}}) > 90',
    'max_over_time(app_gauge{{shard="s{j}"}}[1m]) > 99.9',
    'topk(3, sum by (pod) (rate(app_requests_total{{route="/r{i}"}}[1m]))) > 1e9',
    'predict_linear(app_gauge{{shard="s{j}"}}[2m], 3600) < -1e9',
    'absent(app_gauge{{shard="none{j}"}}) == 2',
    'sum(rate(app_requests_total[1m])) by (method, code) > 1e12',
)


# Over `history`.
HISTORY_SHAPES = (
    'sum by (route) (rate(demo_requests_total{{code="500"}}[5m])) / sum by (route) (rate(demo_requests_total[5m])) > {n}e9',
    'histogram_quantile(0.95, sum by (le) (rate(demo_latency_seconds_bucket{{route="/r{k}"}}[5m]))) > 2',
    'avg_over_time(demo_usage{{host="h{k}"}}[1{n}m]) > 60',
    'max by (volume) (demo_usage) > 99.9',
    'predict_linear(demo_usage{{volume="v{k}"}}[1h], 4 * 3600) < 0',
    'demo_usage{{host="h{k}"}} > 95',
    'topk(3, sum by (pod) (rate(demo_requests_total{{route="/r{k}"}}[1m]))) > 1e9',
    'quantile_over_time(0.9, demo_usage{{volume="v{k}"}}[30m]) < 1',
)


def rules(count, interval="15s", shapes=SHAPES):
    out = ["groups:\n"]
    for i in range(count):
        if i % 50 == 0:
            out.append(f"- name: g{i // 50}\n  interval: {interval}\n  rules:\n")
        expr = shapes[i % len(shapes)].format(i=i % 200, j=i % 100, k=i % 10, n=i // len(shapes))
        out.append(f"  - alert: A{i}\n    expr: '{expr}'\n    for: 1m\n    labels: {{severity: warning}}\n")
        out.append("    annotations: {summary: 'value {{ $value }} on {{ $labels.route }}'}\n")
    return "".join(out)


def rule_test(folder, series, steps):
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/rules.yml", "w") as f:
        f.write("groups:\n- name: g\n  interval: 15s\n  rules:\n")
        for i, expr in enumerate((
            'sum by (route) (rate(http_requests_total{code="500"}[5m])) / sum by (route) (rate(http_requests_total[5m])) > 0.05',
            "histogram_quantile(0.95, sum by (le, route) (rate(http_request_duration_seconds_bucket[5m]))) > 2",
            "(1 - avg by (instance) (rate(cpu_idle[5m]))) * 100 > 80",
            "predict_linear(disk_free[1h], 4*3600) < 0",
            "quantile_over_time(0.9, disk_free[30m]) < 1",
        )):
            f.write(f"  - alert: R{i}\n    expr: '{expr}'\n    for: 5m\n    labels: {{severity: warning}}\n")
        f.write("  - record: job:req:rate5m\n    expr: sum by (code) (rate(http_requests_total[5m]))\n")
    quarter, bounds = series // 4, ("0.1", "0.5", "1", "2", "5", "10", "+Inf")
    with open(f"{folder}/test.yml", "w") as f:
        f.write("rule_files: [rules.yml]\nevaluation_interval: 15s\ntests:\n- interval: 15s\n  input_series:\n")
        for i in range(quarter):
            code = 500 if i % 7 == 0 else 200
            f.write(f"  - series: 'http_requests_total{{route=\"/r{i % 50}\",code=\"{code}\",pod=\"p{i}\"}}'\n    values: '0+{i % 9 + 1}x{steps}'\n")
        for i in range(quarter):
            labels = f'route="/r{i // 7 % 50}",le="{bounds[i % 7]}",pod="p{i // 7}"'
            f.write(f"  - series: 'http_request_duration_seconds_bucket{{{labels}}}'\n    values: '0+{i % 7 + 1}x{steps}'\n")
        for i in range(quarter):
            f.write(f"  - series: 'cpu_idle{{instance=\"h{i // 8}\",cpu=\"{i % 8}\"}}'\n    values: '0+{i % 10 + 3}x{steps}'\n")
        for i in range(quarter):
            f.write(f"  - series: 'disk_free{{instance=\"h{i}\"}}'\n    values: '{100000 + i}-{i % 13}x{steps}'\n")
        f.write("  promql_expr_test:\n  - expr: count(job:req:rate5m)\n")
        f.write(f"    eval_time: {steps * 15}s\n    exp_samples:\n    - labels: '{{}}'\n      value: 2\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["target", port, series]:
            rendered = [page(int(series), step) for step in range(1, 5)]
            print(f"{len(rendered[0])} bytes a page", flush=True)
            serve(int(port), lambda: itertools.cycle(rendered))
        case ["rules", count, *interval]:
            print(rules(int(count), *interval), end="")
        case ["test", folder, series, steps]:
            rule_test(folder, int(series), int(steps))
        case _:
            sys.exit(__doc__)
