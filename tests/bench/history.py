#!/usr/bin/env python3
"""Bytes a sample of the history on disk, measured on this host's own data.

Records the host collector for a while with the given binary, then reads the recorded history: the log, sealed chunks in memory, and the
blocks that the upkeep makes of it.

usage: tests/bench/history.py target/release/nightbell [SECONDS] [INTERVAL]
"""
import os, signal, subprocess, sys, tempfile, time

binary = os.path.abspath(sys.argv[1])
seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 300
interval = sys.argv[3] if len(sys.argv) > 3 else "1s"
folder = tempfile.mkdtemp(prefix="nightbell-history-")
config = os.path.join(folder, "nightbell.yml")
with open(config, "w") as file:
    file.write(f"global: {{scrape_interval: {interval}}}\ncollectors:\n  host: {{}}\nstorage: {{path: {folder}/history}}\n")
command = [binary, "--config", config, "--state-dir", os.path.join(folder, "state"), "--listen", "127.0.0.1:19908"]
process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
time.sleep(seconds)
process.send_signal(signal.SIGTERM)
process.wait(20)
environment = dict(os.environ, NIGHTBELL_HISTORY=os.path.join(folder, "history"))
subprocess.run(["cargo", "test", "-q", "--test", "suite", "--", "--ignored", "--nocapture", "recorded_bytes_per_sample"], env=environment, check=True)
print("recorded in", folder)
