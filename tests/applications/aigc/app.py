"""The AIGC platform's stand-in: health, session statistics behind a token, SQLite, the hourly job's log, MinIO, backups of its deployment guide.

Options: port, home (its folder: data, logs, work_dir), token. MinIO answers on the same port, under its own paths.
Switches: down (the health endpoint answers 500), token (false: every one is refused), minio (its health), free (share of its room).
"""

import datetime
import os
import shutil
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from standin import StandIn, main


class Aigc(StandIn):
    switch = {"down": False, "token": True, "minio": True, "free": 0.5}

    def started(self):
        self.database = os.path.join(self.options["home"], "data/sessions.db")
        self.writer = None
        # The application has it open as long as it runs.
        self.open = sqlite3.connect(self.database, isolation_level=None, check_same_thread=False)
        self.open.execute("PRAGMA journal_mode=WAL")
        self.open.execute("CREATE TABLE user_behavior_stats (id INTEGER PRIMARY KEY, user_id INTEGER)")
        self.open.execute("CREATE TABLE user_preferences_cache (user_id INTEGER PRIMARY KEY, updated_at TEXT)")
        self.open.executemany("INSERT INTO user_behavior_stats (user_id) VALUES (?)", [(n,) for n in range(2000)])
        # Nothing is written without a call: the guide shows two words of the log, ERROR and ScenarioMatcher.
        self.every(0.5, lambda: self.line("backend.log", "INFO ScenarioMatcher matched scenario 3"))
        self.every(0.5, lambda: self.line("frontend.log", "INFO GET / 200"))

    def line(self, file, text):
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        with open(os.path.join(self.options["home"], "logs", file), "a") as log:
            log.write(f"{stamp} {text}\n")

    def do(self, what):
        for _ in range(what.get("errors", 0)):
            self.line("backend.log", "ERROR agent_service tool call failed")
        if "job" in what:
            # "查看日志确认任务启动": which words the log has, the guide does not say.
            self.line("backend.log", f"INFO batch_learn_preferences {what['job']}")
        if "lock" in what:
            if what["lock"]:
                self.writer = sqlite3.connect(self.database, isolation_level=None, check_same_thread=False)
                self.writer.execute("BEGIN EXCLUSIVE")
            else:
                self.writer.execute("ROLLBACK")
                self.writer.close()
        if "backup" in what:
            # cp data/sessions.db data/sessions.db.backup, at a moment when the log is written back; "cut": the disk was full.
            self.open.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            copy = self.database + ".backup"
            shutil.copyfile(self.database, copy)
            if what["backup"] == "cut":
                os.truncate(copy, os.path.getsize(copy) // 2)

    def get(self, path, headers):
        if path == "/api/v1/health":
            return (500, {"detail": "Internal Server Error"}) if self.switch["down"] else (200, {"status": "healthy"})
        if path == "/api/v1/sessions/stats":
            if not self.switch["token"] or headers.get("Authorization") != f"Bearer {self.options['token']}":
                return 401, {"detail": "Could not validate credentials"}
            # Sessions, messages and cost; the guide does not show the keys.
            return 200, {"data": {"total_sessions": 42, "total_messages": 900, "total_cost_usd": 12.5}}
        if path in ("/minio/health/live", "/minio/health/ready"):
            return (200, "") if self.switch["minio"] else (503, "")
        if path == "/minio/v2/metrics/cluster":
            return 200, (
                "# TYPE minio_cluster_capacity_usable_total_bytes gauge\nminio_cluster_capacity_usable_total_bytes{server=\"a\"} 1000000\n"
                f"# TYPE minio_cluster_capacity_usable_free_bytes gauge\nminio_cluster_capacity_usable_free_bytes{{server=\"a\"}} {self.switch['free'] * 1e6}\n"
            )
        return None


main(Aigc)
