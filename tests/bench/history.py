#!/usr/bin/env python3
"""Bytes a sample of the history on disk, measured on this host's own data.

Records the host collector for a while with the given binary, then reads the recorded history: the log, sealed chunks in memory, and the
blocks that the upkeep makes of it. Ends with status 1 if sealed chunks or blocks take more than LIMIT bytes a sample. At least 120
collections are needed for a chunk to be sealed.

usage: tests/bench/history.py target/release/nightbell [SECONDS] [INTERVAL]
"""
import os, re, signal, subprocess, sys, tempfile, time

LIMIT = 1.5

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
command = ["cargo", "test", "-q", "--test", "suite", "--", "--ignored", "--nocapture", "recorded_bytes_per_sample"]
told = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
print("recorded in", folder)
failed = False
for what, figure in re.findall(r"^(.+?): .*?: ([0-9.]+|NaN) bytes a sample", told, re.M):
    judged = what != "log"
    kept = not judged or float(figure) <= LIMIT
    failed |= not kept
    print(f"{what:18} {figure:>6} bytes a sample" + (f"  at most {LIMIT}: {'kept' if kept else 'NOT KEPT'}" if judged else ""))
sys.exit(1 if failed or "blocks" not in told else 0)
