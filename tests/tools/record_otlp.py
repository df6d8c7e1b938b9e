#!/usr/bin/env python3
"""Makes the payloads of tests/collectors/otlp: NAME.pb and NAME.json. With --prometheus it also writes payloads.expected: what the OTLP receiver
of the `prometheus` in the PATH makes of them. Debian builds Prometheus without it; a release of the project has it.

Needs the package opentelemetry-proto. The tests only read what is written here.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "collectors" / "otlp"
PORT = 19191
AT = 1_735_689_600
NANOS = AT * 10**9
START = NANOS - 60 * 10**9
CUMULATIVE = "AGGREGATION_TEMPORALITY_CUMULATIVE"


def attribute(key, value):
    kinds = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue", bytes: "bytesValue"}
    if isinstance(value, list):
        return {"key": key, "value": {"arrayValue": {"values": [attribute("", item)["value"] for item in value]}}}
    if isinstance(value, dict):
        return {"key": key, "value": {"kvlistValue": {"values": [attribute(k, v) for k, v in value.items()]}}}
    if value is None:
        return {"key": key, "value": {}}
    if isinstance(value, bytes):
        import base64
        value = base64.b64encode(value).decode()
        return {"key": key, "value": {"bytesValue": value}}
    return {"key": key, "value": {kinds[type(value)]: str(value) if type(value) is int else value}}


def point(value=1.0, attributes=None, **more):
    number = {"asDouble": value} if isinstance(value, float) else {"asInt": str(value)}
    return {"timeUnixNano": str(NANOS), "startTimeUnixNano": str(START), **number,
            "attributes": [attribute(*pair) for pair in (attributes or {}).items()], **more}


def bare(attributes=None, **more):
    got = point(1.0, attributes, **more)
    del got["asDouble"]
    return got


def gauge(name, unit="", points=None):
    return {"name": name, "unit": unit, "description": f"About {name}.", "gauge": {"dataPoints": points or [point()]}}


def total(name, unit="", points=None, monotonic=True):
    data = {"dataPoints": points or [point(3)], "isMonotonic": monotonic, "aggregationTemporality": CUMULATIVE}
    return {"name": name, "unit": unit, "sum": data}


def of(kind, name, points, unit="s"):
    data = {"dataPoints": points}
    if kind != "summary":
        data["aggregationTemporality"] = CUMULATIVE
    return {"name": name, "unit": unit, kind: data}


def resource(attributes, metrics, scope=None):
    return {"resource": {"attributes": [attribute(*pair) for pair in attributes.items()]},
            "scopeMetrics": [{"scope": scope or {"name": "lib", "version": "1"}, "metrics": metrics}]}


SERVICE = {"service.name": "chat"}
UNITS = ["", "1", "s", "ms", "By", "MiBy", "{token}", "{packet}/s", "By/s", "%", "m/s", "1/s", "/s", "s/", "foo bar", "a/b", "Cel", "time", "_x_", "{a}b"]
NAMES = ["plain", "with.dots", "with-dash", "a..b", "_leading", "trailing_", "9digit", "colon:name", "Ünï.cödé", "x.seconds", "x.seconds.y",
         "total", "a.total.b", "ratio.x", "a__b", "jvm.memory.used", "."]
CASES = {
    "names": [resource(SERVICE, [gauge(name) for name in NAMES])],
    "units": [resource(SERVICE, [gauge(f"gauge.u{n}", unit) for n, unit in enumerate(UNITS)]
                       + [total(f"sum.u{n}", unit) for n, unit in enumerate(UNITS)])],
    "sums": [resource(SERVICE, [total("requests", "1"), total("requests.total", "{request}"), total("queue", "{item}", monotonic=False),
                                total("bytes", "By", [point(12345678901234567), point(0.5, {"a": "b"})]), gauge("int", "", [point(-7)])])],
    "histograms": [resource(SERVICE, [
        of("histogram", "duration", [bare({"op": "chat"}, count="6", sum=2.5, bucketCounts=["1", "2", "3"], explicitBounds=[0.01, 1.0],
                                          min=0.001, max=2.0)]),
        of("histogram", "no.sum", [bare(count="3", bucketCounts=["1", "2"], explicitBounds=[5.0])]),
        of("histogram", "no.bounds", [bare(count="3", sum=9.0)]),
        of("histogram", "large", [bare(count="3", sum=9.0, bucketCounts=["1", "1", "1"], explicitBounds=[1e6, 1e21])], "By")])],
    "exponential": [resource(SERVICE, [
        of("exponentialHistogram", "exp", [bare(count="10", sum=20.0, scale=3, zeroCount="2",
                                                positive={"offset": 2, "bucketCounts": ["1", "0", "3"]},
                                                negative={"offset": -4, "bucketCounts": ["4"]})]),
        of("exponentialHistogram", "fine", [bare(count="6", sum=7.0, scale=10, positive={"offset": 5, "bucketCounts": ["1", "2", "3"]})]),
        of("exponentialHistogram", "gaps", [bare(count="3", sum=7.0, scale=0,
                                                 positive={"offset": 0, "bucketCounts": ["1", "0", "0", "0", "0", "0", "2"]})]),
        of("exponentialHistogram", "empty", [bare(count="0", scale=0)])])],
    "summaries": [resource(SERVICE, [of("summary", "lat", [bare({"x": "y"}, count="4", sum=8.0, quantileValues=[
        {"quantile": 0.5, "value": 1.0}, {"quantile": 0.99, "value": 3.5}, {"quantile": 1.0, "value": 4.0}])])])],
    "attributes": [resource(SERVICE, [gauge("g", "", [
        point(1.0, {"http.method": "GET", "n": 7, "f": 1.5, "t": True, "no": False, "big": 1e21, "whole": 2.0}),
        point(2.0, {"a.b": "x", "a_b": "y", "a-b": "z"}), point(3.0, {"list": ["a", 1, True, 1.5, None], "map": {"k": "v", "a": [1]}}),
        point(4.0, {"1st": "x", "_private": "y", "__reserved": "z", "__reserved__": "w", "Ü": "u", "a..b": "c"}),
        point(5.0, {"empty": "", "void": None, "raw": b"\x00\xff", "c": "d"}), point(6.0, {"job": "mine", "instance": "other"}),
        point(7.0, {"quotes": 'a"b\\c\nd<>&'}), point(8.0, {"listing": [{"k": 1}, ["x<y"]]})])])],
    "resources": [
        resource({}, [gauge("no.resource")]), resource({"host.name": "h"}, [gauge("no.service")]),
        resource({"service.name": "only"}, [gauge("a.b")]),
        resource({"service.namespace": "shop", "service.name": "cart", "service.instance.id": "i-1", "host.name": "h1",
                  "process.pid": 42, "telemetry.sdk.language": "python"}, [gauge("a.b", "", [point(2.0, {"job": "x"})])]),
        resource({"service.namespace": "shop", "host.name": "h2"}, [gauge("a.b", "", [point(3.0, {"x": "1"})])]),
        resource({"service.instance.id": "i-2", "host.name": "h2"}, [gauge("a.b", "", [point(4.0, {"x": "2"})])]),
    ],
    "flags": [resource(SERVICE, [gauge("gone", "", [bare({"a": "b"}, flags=1)]), gauge("here")])],
}


def ask(path, query):
    url = f"http://127.0.0.1:{PORT}{path}?{urllib.parse.urlencode(query)}"
    return json.load(urllib.request.urlopen(url, timeout=10))["data"]


def labels(metric):
    quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in metric.items()}
    return "{" + ", ".join(f"{name}={quoted[name]}" for name in sorted(quoted)) + "}"


def record(payload):
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "p.yml").write_text("global: {}\n")
        server = subprocess.Popen(["prometheus", "--config.file", f"{folder}/p.yml", "--storage.tsdb.path", f"{folder}/data",
                                   "--web.listen-address", f"127.0.0.1:{PORT}", "--web.enable-otlp-receiver",
                                   "--enable-feature=native-histograms"], stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/-/ready", timeout=5)
                    break
                except OSError:
                    time.sleep(0.05)
            request = urllib.request.Request(f"http://127.0.0.1:{PORT}/api/v1/otlp/v1/metrics", payload,
                                             {"Content-Type": "application/x-protobuf"})
            urllib.request.urlopen(request, timeout=10)
            lines = []
            for found in ask("/api/v1/query", {"query": '{__name__=~".+"}', "time": AT + 1})["result"]:
                if "value" in found:
                    lines.append(f"{labels(found['metric'])} {float(found['value'][1])!r}")
                else:
                    histogram = found["histogram"][1]
                    buckets = [[kind, repr(float(low)), repr(float(high)), repr(float(count))] for kind, low, high, count in
                               histogram.get("buckets", [])]
                    shown = " ".join(f"{low}..{high}={count}" for _, low, high, count in buckets)
                    lines.append(f"{labels(found['metric'])} count={float(histogram['count'])!r} sum={float(histogram['sum'])!r} {shown}".rstrip())
            return lines
        finally:
            server.terminate()
            server.wait()


def main():
    expected = set()
    for name, resources in CASES.items():
        request = json_format.ParseDict({"resourceMetrics": resources}, ExportMetricsServiceRequest())
        payload = request.SerializeToString()
        (FOLDER / f"{name}.pb").write_bytes(payload)
        # OTLP's JSON has integers for enums.
        text = json_format.MessageToJson(request, use_integers_for_enums=True)
        (FOLDER / f"{name}.json").write_text(text + "\n")
        if "--prometheus" in sys.argv:
            expected |= set(record(payload))
    if expected:
        (FOLDER / "payloads.expected").write_text("\n".join(sorted(expected)) + "\n")


main()
