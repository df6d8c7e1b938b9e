"""Agent-V3's stand-in: the health endpoint and the metrics that its Prometheus scrapes.

Options: port, backups (a folder), log (a file as Docker's json-file driver writes the container's output).
Switches: down (the health endpoint answers 503), failed (share of the requests that get 500), duration (seconds of a request), requests (a tick).

The manual shows a table of figures and dashboards, not the metrics behind them: the names are those that FastAPI's usual instrumentation gives.
"""

import datetime
import gzip
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from standin import StandIn, dump_text, main

BUCKETS = [0.1, 0.5, 1, 2.5, 5, 10]


class AgentV3(StandIn):
    switch = {"down": False, "failed": 0, "duration": 0.05, "requests": 100}

    def started(self):
        self.statuses = {"200": 0, "500": 0}
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.every(0.1, self.serve)
        self.every(0.5, lambda: self.log("INFO request handled"))

    def serve(self):
        count, switch = self.switch["requests"], self.switch
        self.statuses["500"] += count * switch["failed"]
        self.statuses["200"] += count * (1 - switch["failed"])
        for index, bound in enumerate(BUCKETS + [float("inf")]):
            self.buckets[index] += count if switch["duration"] <= bound else 0
        self.seconds += count * switch["duration"]

    def log(self, text):
        # `docker compose logs agent-v3 | grep -i error` is all that the manual says of its lines.
        stamp = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
        with open(self.options["log"], "a") as log:
            log.write(json.dumps({"log": text + "\n", "stream": "stdout", "time": stamp}) + "\n")

    def do(self, what):
        for _ in range(what.get("errors", 0)):
            self.log("ERROR tool execution failed")
        if "backup" in what:
            # weekly_backup_test.sh takes the newest postgres_*.sql.gz; "cut" is a dump whose disk was full.
            stamp = datetime.datetime.now().strftime("%Y%m%d_%H%M%S_%f")
            text = dump_text()
            end = b"" if what["backup"] == "cut" else b"\n--\n-- PostgreSQL database dump complete\n--\n\n"
            with open(os.path.join(self.options["backups"], f"postgres_{stamp}.sql.gz"), "wb") as dump:
                dump.write(gzip.compress(text + end))

    def get(self, path, _headers):
        if path == "/health":
            return (503, {"status": "unhealthy"}) if self.switch["down"] else (200, {"status": "healthy"})
        if path == "/metrics":
            with self.lock:
                lines = ["# TYPE http_requests_total counter"]
                lines += [f'http_requests_total{{method="POST",handler="/chat",status="{s}"}} {n}' for s, n in self.statuses.items()]
                lines.append("# TYPE http_request_duration_seconds histogram")
                for bound, count in zip([str(b) for b in BUCKETS] + ["+Inf"], self.buckets):
                    lines.append(f'http_request_duration_seconds_bucket{{handler="/chat",le="{bound}"}} {count}')
                lines.append(f'http_request_duration_seconds_sum{{handler="/chat"}} {self.seconds}')
                lines.append(f'http_request_duration_seconds_count{{handler="/chat"}} {self.buckets[-1]}')
                return 200, "\n".join(lines) + "\n"
        return None


main(AgentV3)
