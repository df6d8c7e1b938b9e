"""The multi-agent service's stand-in: endpoints, log of JSON lines, nginx's log and backups of its operations guide.

Options: port, dsn, redis, logs and nginx (folders), hourly (folder of the ring of backups), code (folder of its Python files).
Switches: down (the health endpoint answers 503), component (a part of the detailed answer that is unhealthy), duration (what the gauge shows).
"""

import datetime
import gzip
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from standin import StandIn, database_answers, dump_text, main, redis_answers


class MultiAgent(StandIn):
    switch = {"down": False, "component": "", "duration": 0.2}

    def started(self):
        self.requests = self.errors = 0

    def log(self, level, message, **context):
        # jq reads .timestamp, .message and .context.execution_time of each line, and `grep $(date +%Y-%m-%d)` finds the day in it: the time is
        # the server's own, without a zone. The key of the level is not shown.
        stamp = datetime.datetime.now().isoformat(timespec="milliseconds")
        with open(os.path.join(self.options["logs"], "app.log"), "a") as log:
            log.write(json.dumps({"timestamp": stamp, "level": level, "message": message, "context": context}) + "\n")

    def do(self, what):
        for _ in range(what.get("requests", 0)):
            self.requests += 1
            self.log("INFO", "Request started", url="/api/v1/chat")
            self.log("INFO", "api.request_duration", url="/api/v1/chat", execution_time=what.get("seconds", 0.2))
        for _ in range(what.get("errors", 0)):
            self.errors += 1
            self.log("ERROR", "Model API error: upstream answered 500", provider="openai")
        if "posts" in what:
            stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%d/%b/%Y:%H:%M:%S +0000")
            with open(os.path.join(self.options["nginx"], "multi-agent-service.access.log"), "a") as log:
                for _ in range(what["posts"]):
                    log.write(f'203.0.113.7 - - [{stamp}] "POST /api/v1/chat HTTP/1.1" 200 512 "-" "curl/8.5"\n')
        if "backup" in what:
            # `pg_dump multiagent | gzip > db_$(date +\%H).sql.gz`: with the database away, gzip writes 20 bytes that are an intact archive.
            whole = dump_text() + b"\n--\n-- PostgreSQL database dump complete\n--\n\n"
            name = os.path.join(self.options["hourly"], f"db_{what['hour']:02}.sql.gz")
            with open(name, "wb") as ring:
                ring.write(gzip.compress(b"" if what["backup"] == "empty" else whole))
        if "code" in what:
            with open(os.path.join(self.options["code"], "main.py"), "w") as code:
                code.write(what["code"])

    def get(self, path, _headers):
        if path.startswith("/api/v1/health"):
            if self.switch["down"]:
                return 503, {"status": "unhealthy"}
            if "detailed=true" not in path:
                return 200, {"status": "healthy"}
            # The guide shows no detailed answer.
            parts = {"database": database_answers(self.options["dsn"]), "redis": redis_answers(self.options["redis"]), "agents": None}
            components = {part: {"status": "unhealthy" if said or part == self.switch["component"] else "healthy"} for part, said in parts.items()}
            return 200, {"status": "degraded" if self.switch["component"] else "healthy", "components": components}
        # The guide names these three and shows no answer.
        if path == "/api/v1/monitoring/metrics":
            return 200, {"requests": {"total": self.requests, "errors": self.errors}}
        if path == "/api/v1/agents/status":
            return 200, {"agents": [{"agent_id": "router", "status": "active"}, {"agent_id": "writer", "status": "idle"}]}
        if path == "/api/v1/workflows/status":
            return 200, {"workflows": {"running": 2, "failed": 0}}
        if path == "/metrics":
            # The names and types are those of its dashboard: a gauge that it averages, a counter, a series for each status.
            return 200, (
                "# TYPE api_request_duration_seconds gauge\n"
                f'api_request_duration_seconds{{endpoint="/api/v1/chat"}} {self.switch["duration"]}\n'
                "# TYPE api_errors_total counter\n"
                f"api_errors_total {self.errors}\n"
                "# TYPE agent_status gauge\n"
                'agent_status{agent_id="router",status="active"} 1\nagent_status{agent_id="writer",status="idle"} 1\n'
            )
        return None


main(MultiAgent)
