#!/usr/bin/env python3
"""How long the picture of an alert takes to draw, and how large it is.

nightbell watches nothing but a wave that it computes itself, so that the alert has its values of a whole hour at once; a local Slack takes the
message, and the signed link in it is opened again and again. Time is what the process itself uses for each answer (CPU, as /proc says) and
what a client waits for it; both hold the HTTP request, too.

usage: tests/bench/picture.py [--nightbell target/release/nightbell] [--times 500]
Exit status 1 when a picture takes more than 20 ms of CPU or 30 KB.
"""
import argparse, http.server, json, os, re, subprocess, sys, tempfile, threading, time, urllib.request
from process import cpu, port

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--nightbell", default="target/release/nightbell")
arguments.add_argument("--times", type=int, default=500)
options = arguments.parse_args()
messages = []


class Slack(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        messages.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


slack = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slack)
threading.Thread(target=slack.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory(prefix="nightbell-bench-") as work:
    own = port()
    with open(f"{work}/rules.yml", "w") as f:
        f.write("groups: [{name: g, rules: [{alert: Wave, expr: 'vector(60 + 30 * scalar(sin(vector(time() / 300)))) > 1'}]}]\n")
    with open(f"{work}/nightbell.yml", "w") as f:
        f.write(f"global: {{evaluation_interval: 1m}}\nrules: {{shipped: false}}\nrule_files: [rules.yml]\nweb: {{external_url: 'http://127.0.0.1:{own}'}}\n"
                f"route: {{receiver: all, group_wait: 0s}}\nreceivers: [{{name: all, slack_configs: [{{api_url: 'http://127.0.0.1:{slack.server_port}'}}]}}]\n")
    command = [os.path.abspath(options.nightbell), "--config", f"{work}/nightbell.yml", "--listen", f"127.0.0.1:{own}", "--state-dir", f"{work}/state"]
    with open(f"{work}/log.txt", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.time() + 30
        while not messages and time.time() < end:
            time.sleep(0.05)
        if not messages:
            sys.exit("no message came:\n" + open(f"{work}/log.txt").read())
        found = re.search(r"<(http[^|>]*/picture\?[^|>]*)", messages[0]["attachments"][0]["text"].replace("&amp;", "&"))
        if not found:
            sys.exit(f"no link to a picture: {messages[0]}")
        answers, used, waits = [], cpu(process), []
        for _ in range(options.times):
            begun = time.perf_counter()
            answers.append(urllib.request.urlopen(found[1], timeout=10).read())
            waits.append(time.perf_counter() - begun)
        used = (cpu(process) - used) / options.times * 1000
    finally:
        process.terminate()
        process.wait()
waits.sort()
size = max(map(len, answers))
assert all(answer.startswith(b"\x89PNG") for answer in answers)
print(f"{options.times} pictures: {used:.2f} ms of CPU each, {waits[len(waits) // 2] * 1000:.2f} ms in the middle and "
      f"{waits[int(len(waits) * 0.99)] * 1000:.2f} ms at the 99th percentile with the request, {size} bytes at most")
sys.exit(0 if used < 20 and size < 30_000 else 1)
