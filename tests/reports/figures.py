"""Figures of a period from raw samples, as plainly as can be: differences, sums, means. Reads lines `series<TAB>seconds<TAB>value`, then prints JSON.

It knows nothing of hours, rates or interpolation between samples: what a report says must agree with it within the error of the last sample of an hour.
"""

import json
import sys
from collections import defaultdict

START, END, STEP = (float(text) for text in sys.argv[2:5])


def read(path):
    series = defaultdict(list)
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            name, at, value = line.rstrip("\n").split("\t")
            series[name].append((float(at), float(value)))
    return series


def increase(points, start, end):
    """What a counter grew by: every step between neighbours, none over a gap; a fall is a restart from nothing."""
    total = 0.0
    for (before, a), (at, b) in zip(points, points[1:]):
        if start < at <= end and at - before < 2.5 * STEP:
            total += b - a if b >= a else b
    return total


def mean(points, start, end):
    values = [value for at, value in points if start < at <= end]
    return sum(values) / len(values) if values else None


def line(points):
    """Least squares: slope, R²."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    sxx = sum((x - mx) ** 2 for x, _ in points)
    sxy = sum((x - mx) * (y - my) for x, y in points)
    syy = sum((y - my) ** 2 for _, y in points)
    slope = sxy / sxx
    rest = sum((y - my - slope * (x - mx)) ** 2 for x, y in points)
    return slope, 1 - rest / syy


def quantile(share, buckets):
    total, below, low = buckets[-1][1], 0.0, 0.0
    rank = share * total
    for bound, count in buckets:
        if count >= rank:
            return {"beyond": low} if bound == float("inf") else low + (bound - low) * (rank - below) / (count - below)
        below, low = count, bound
    raise ValueError("no bucket")


def figures(series, start, end):
    total = lambda name: increase(series[name], start, end)
    requests = total("requests_ok") + total("requests_404") + total("requests_500")
    bounds = ["0.1", "0.5", "1", "+Inf"]
    buckets = [(float("inf") if le == "+Inf" else float(le), total(f"bucket_{le}")) for le in bounds]
    hours = sum(1 for at, value in series["up"] if start < at <= end and value == 1) * STEP / 3600
    cpu = series["idle"]
    return {
        "requests": requests,
        "requests_per_day": requests / hours * 24,
        "requests_4xx": total("requests_404"),
        "requests_5xx_ratio": total("requests_500") / requests,
        "response_mean_seconds": total("sum") / total("bucket_+Inf"),
        "response_p95_seconds": quantile(0.95, buckets),
        "response_p50_check": quantile(0.5, buckets),
        "cpu_mean_ratio": 1 - increase(cpu, start, end) / (sum(STEP for (a, _), (b, _) in zip(cpu, cpu[1:]) if start < b <= end and b - a < 2.5 * STEP)),
        "memory_mean_ratio": 1 - mean(series["available"], start, end) / 100.0,
        "disk_mean_ratio": 1 - mean(series["free"], start, end) / 1000.0,
        "disk_peak_ratio": 1 - min(value for at, value in series["free"] if start < at <= end) / 1000.0,
        "errors": total("log_error"),
        "llm_calls": total("llm_shop") + total("llm_agents") + total("llm_small"),
        "llm_of_agents": total("llm_agents") + total("llm_small"),
        "llm_of_model": total("llm_shop") + total("llm_agents"),
        "llm_error_ratio": total("llm_errors") / total("llm_shop"),
        "llm_mean_seconds": total("llm_seconds") / total("llm_small"),
        "llm_tokens": total("llm_tokens"),
        "llm_cost": total("llm_cost"),
        "recorded": hours / ((end - start) / 3600),
    }


series = read(sys.argv[1])
length = END - START
days = []
for day in range(int(length // 86400)):
    begin = START + day * 86400
    values = [1 - value / 1000.0 for at, value in series["free"] if begin < at <= begin + 86400]
    if len(values) * STEP >= 12 * 3600:
        days.append((day, sum(values) / len(values)))
slope, fit = line(days)
print(json.dumps({
    "now": figures(series, START, END),
    "before": figures(series, START - length, START),
    "disk": {"slope": slope, "fit": fit, "days": len(days)},
}))
