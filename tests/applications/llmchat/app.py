"""LLMChat's stand-in: the health controller, the metrics service, the logs and the backups of its maintenance guide.

Options: port, dsn, redis, logs (folder for app.log, error.log, access.log), backups (folder).
Switches: down (the service answers 500), database, redis and external (its own check of them fails though they run), failed and refused (shares of the
requests that get 500 and 404), duration (seconds of a request), requests (a tick), heap (share in use), silent (app.log is not written), error_log (that one is).
"""

import datetime
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from standin import StandIn, database_answers, main, redis_answers

# The guide's own buckets.
BUCKETS = [0.1, 0.5, 1, 2, 5, 10]


class LLMChat(StandIn):
    switch = {
        **{"down": False, "database": True, "redis": True, "external": True},
        **{"failed": 0, "refused": 0, "duration": 0.05, "requests": 10, "heap": 0.5, "silent": False, "error_log": True},
    }

    def started(self):
        self.statuses = {"200": 0, "404": 0, "500": 0}
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.start = time.time()
        self.every(0.1, self.serve)
        self.every(0.5, self.log)

    def serve(self):
        count, switch = self.switch["requests"], self.switch
        failed, refused = count * switch["failed"], count * switch["refused"]
        for status, more in (("500", failed), ("404", refused), ("200", count - failed - refused)):
            self.statuses[status] += more
        for index, bound in enumerate(BUCKETS + [float("inf")]):
            self.buckets[index] += count if switch["duration"] <= bound else 0
        self.seconds += count * switch["duration"]

    def line(self, file, level, text):
        # The guide greps for ERROR in these files and shows no line of them; winston's usual form is time, level, message.
        stamp = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        with open(os.path.join(self.options["logs"], file), "a") as log:
            log.write(f"{stamp} {level} {text}\n")

    def log(self):
        if not self.switch["silent"]:
            self.line("app.log", "INFO", "ChatService message answered")
        if self.switch["error_log"]:
            self.line("error.log", "WARN", "slow upstream")
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%d/%b/%Y:%H:%M:%S +0000")
        with open(os.path.join(self.options["logs"], "access.log"), "a") as log:
            log.write(f'198.51.100.7 - - [{stamp}] "GET /api/chat HTTP/1.1" 200 512 "-" "Mozilla/5.0"\n')

    def do(self, what):
        for _ in range(what.get("errors", 0)):
            self.line("app.log", "ERROR", "ChatService upstream failed: agent 'a1' timed out")
        if "backup" in what:
            # scripts/backup.sh: four archives under one time stamp. A dump that the disk cut short has no end.
            stamp = datetime.datetime.now().strftime("%Y%m%d_%H%M%S_%f")
            end = "" if what["backup"] == "cut" else "--\n-- PostgreSQL database dump complete\n--\n\n"
            body = "--\n-- PostgreSQL database dump\n--\n\n" + "INSERT INTO messages VALUES (1);\n" * 4000
            with open(os.path.join(self.options["backups"], f"database_{stamp}.sql"), "w") as dump:
                dump.write(body + end)

    def checks(self):
        # checkExternalServices, checkDiskSpace and checkMemory are named in the guide; their answers are those of the two that it shows.
        found = []
        for name, said in (("database", self.database()), ("redis", self.redis())):
            check = {"name": name, "status": "unhealthy" if said else "healthy", "responseTime": 1, "details": {"connected": not said}}
            if said:
                check["error"] = said
            found.append(check)
        external = "healthy" if self.switch["external"] else "unhealthy"
        others = (("external", external), ("disk", "healthy"), ("memory", "healthy"))
        return found + [{"name": name, "status": status, "responseTime": 0} for name, status in others]

    def database(self):
        return database_answers(self.options["dsn"]) if self.switch["database"] else "pool exhausted"

    def redis(self):
        return redis_answers(self.options["redis"]) if self.switch["redis"] else "READONLY"

    def get(self, path, _headers):
        if self.switch["down"]:
            return 500, {"statusCode": 500, "message": "Internal server error"}
        if path == "/health":
            checks = self.checks()
            failed = sum(check["status"] == "unhealthy" for check in checks)
            # aggregateHealthStatus. The controller throws nothing, so Nest answers 200 whatever it says.
            status = "healthy" if failed == 0 else "degraded" if failed < len(checks) / 2 else "unhealthy"
            return 200, {"status": status, "timestamp": time.time(), "checks": checks, "uptime": time.time() - self.start, "version": "1.0.0"}
        if path in ("/health/db", "/health/redis"):
            # The daily check's curl -f asks them; the guide shows no controller, so a failure is taken to be 503.
            said = self.database() if path == "/health/db" else self.redis()
            return (503, {"status": "unhealthy", "error": said}) if said else (200, {"status": "healthy"})
        if path == "/metrics":
            with self.lock:
                return 200, self.metrics()
        return None

    def metrics(self):
        # prom-client's defaults beside the guide's own metrics, all with its prefix. Where they are served the guide does not say.
        lines = ["# TYPE llmchat_http_requests_total counter"]
        lines += [f'llmchat_http_requests_total{{method="POST",route="/api/chat",status_code="{s}"}} {n}' for s, n in self.statuses.items()]
        labels = 'method="POST",route="/api/chat"'
        name = "llmchat_http_request_duration_seconds"
        lines.append(f"# TYPE {name} histogram")
        for bound, count in zip([str(b) for b in BUCKETS] + ["+Inf"], self.buckets):
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {count}')
        lines += [f"{name}_sum{{{labels}}} {self.seconds}", f"{name}_count{{{labels}}} {self.buckets[-1]}"]
        lines += ["# TYPE llmchat_chat_messages_total counter", f'llmchat_chat_messages_total{{agent_id="a1",status="success"}} {self.statuses["200"]}']
        gauges = {
            "active_sessions_total": 12,
            "database_connections_active": 4,
            "redis_connections_active": 2,
            "nodejs_heap_size_used_bytes": self.switch["heap"] * 1e8,
            "nodejs_heap_size_total_bytes": 1e8,
        }
        for gauge, value in gauges.items():
            lines += [f"# TYPE llmchat_{gauge} gauge", f"llmchat_{gauge} {value}"]
        return "\n".join(lines) + "\n"


main(LLMChat)
