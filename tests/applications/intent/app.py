"""The intent system's stand-in: health endpoints, log, embedded Chroma and backups of its maintenance guide.

Options: port, dsn, home (its folder: data/chroma, logs), backups (a folder).
Switches: down (the health endpoint answers 500), slow (seconds before it answers), vector_store and openai (what their checks say).
"""

import datetime
import gzip
import os
import sqlite3
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from standin import StandIn, database_answers, dump_text, main


class Intent(StandIn):
    switch = {"down": False, "slow": 0, "vector_store": True, "openai": True}

    def started(self):
        self.every(0.5, lambda: self.line("INFO", "orchestrator chat answered"))
        # What a PersistentClient leaves: the tables that count, not all of them.
        with sqlite3.connect(os.path.join(self.options["home"], "data/chroma/chroma.sqlite3")) as chroma:
            chroma.execute("CREATE TABLE collections (id TEXT PRIMARY KEY, name TEXT)")
            chroma.execute("CREATE TABLE embeddings (id INTEGER PRIMARY KEY, segment_id TEXT)")
            chroma.execute("INSERT INTO collections VALUES ('c1', 'documents')")
            chroma.executemany("INSERT INTO embeddings (segment_id) VALUES (?)", [("s1",)] * 250)
        chroma.close()

    def line(self, level, text):
        # `awk '{print $5}'` of an ERROR line is its type: date, time, level, module, type.
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
        with open(os.path.join(self.options["home"], "logs/app.log"), "a") as log:
            log.write(f"{stamp} {level} services.chat {text}\n")

    def do(self, what):
        for _ in range(what.get("errors", 0)):
            self.line("ERROR", "RetrievalError: no answer from the vector store")
        if "backup" in what:
            stamp = datetime.datetime.now().strftime("%Y%m%d_%H%M%S_%f")
            end = b"" if what["backup"] == "cut" else b"\n--\n-- PostgreSQL database dump complete\n--\n\n"
            with open(os.path.join(self.options["backups"], f"backup_{stamp}.sql.gz"), "wb") as dump:
                dump.write(gzip.compress(dump_text() + end))

    def get(self, path, _headers):
        if path == "/v1/health":
            time.sleep(self.switch["slow"])
            return (500, {"detail": "Internal Server Error"}) if self.switch["down"] else (200, {"status": "ok"})
        if path == "/v1/health/detailed":
            # A name for each check; what the checks return the guide does not show.
            return 200, {
                "database": database_answers(self.options["dsn"]) is None,
                "vector_store": self.switch["vector_store"],
                "openai": self.switch["openai"],
            }
        return None


main(Intent)
