"""What the stand-ins of the applications share: a small HTTP server, and switches that a test throws.

A stand-in follows its application's guide, not nightbell. POST /standin/switch takes a JSON object that is merged into `switch`; POST /standin/do
runs `do` with one. The process ends with its standard input, so that it outlives no test.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import redis


class StandIn:
    """An application: subclasses answer paths in `get`, and do what a test asks for in `do`."""

    switch = {}

    def __init__(self, options):
        self.options = options
        self.switch = dict(self.switch)
        self.lock = threading.Lock()

    def get(self, path, headers):
        """Status and body of an answer: a text, or what becomes JSON; None: there is no such path."""
        raise NotImplementedError

    def do(self, what):
        """Does what a test asks for."""

    def every(self, seconds, what):
        """Calls `what` again and again, as long as the stand-in runs."""

        def loop():
            while not self.ended.wait(seconds):
                with self.lock:
                    what()

        threading.Thread(target=loop, daemon=True).start()

    def run(self):
        self.ended = threading.Event()
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, body):
                text = body if isinstance(body, str) else json.dumps(body)
                kind = "text/plain; version=0.0.4" if isinstance(body, str) else "application/json"
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                # Checks of databases wait: they must not hold up other answers.
                found = standin.get(self.path, self.headers)
                self.answer(*(found if found is not None else (404, {"detail": "Not Found"})))

            def do_POST(self):
                what = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
                with standin.lock:
                    if self.path == "/standin/switch":
                        standin.switch.update(what)
                        standin.switched()
                    else:
                        standin.do(what)
                self.answer(200, standin.switch)

        class Server(ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                # Who asked does not wait for ever.
                if not isinstance(sys.exc_info()[1], ConnectionError):
                    super().handle_error(request, client_address)

        server = Server(("127.0.0.1", self.options["port"]), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.started()
        print("ready", flush=True)
        sys.stdin.read()
        self.ended.set()

    def started(self):
        """Begins what runs in the background."""

    def switched(self):
        """Acts on a switch that was thrown."""


def main(kind):
    kind(json.loads(sys.argv[1])).run()


def dump_text():
    """What pg_dump writes of a small database, without its end; random, so that gzip leaves its size."""
    rows = "".join(f"INSERT INTO public.messages VALUES ({row}, '{os.urandom(500).hex()}');\n" for row in range(20))
    return ("--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE public.messages (id integer, text text);\n" + rows).encode()


def database_answers(dsn):
    """SELECT 1, as the applications' own checks ask."""
    try:
        with psycopg.connect(dsn, connect_timeout=2) as connection:
            connection.execute("SELECT 1")
        return None
    except psycopg.Error as error:
        return str(error) or "no answer"


def redis_answers(url):
    try:
        redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2).ping()
        return None
    except redis.RedisError as error:
        return str(error) or "no answer"
