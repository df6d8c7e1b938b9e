#!/usr/bin/env python3
"""Added latency of the pass-through: streams from a local provider, asked directly and through nightbell, many at once.

    llm_proxy.py NIGHTBELL [--streams 200] [--seconds 30 | --minutes 30] [--reload | --reload-every 60]

The provider sends a head and chunks of a stream, each with its time; clients take the time at which each chunk arrives. What is printed is the delay
from sending to arrival, without and with nightbell between, and their difference, and nightbell's memory at the beginning and at the end.
Tokens are counted too: nightbell's counters must say what the answers said, each token once, whatever was reloaded meanwhile. The exit status is 1
where a stream was cut or a token was counted twice, or not. Directly it measures 30 seconds at most.
"""
import argparse
import asyncio
import json
import os
import pathlib
import random
import signal
import statistics
import sys
import tempfile
import time
import urllib.parse
import urllib.request

CHUNKS = 10
PAUSE = 0.25


async def provide(reader, writer):
    """Answers every request with a stream."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
            await reader.readexactly(length)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(CHUNKS):
                usage = ',"usage":{"prompt_tokens":10,"completion_tokens":10}' if number == CHUNKS - 1 else ""
                data = f'data: {{"t":{time.monotonic_ns()},"choices":[{{"delta":{{"content":"word"}}}}]{usage}}}\n\n'.encode()
                writer.write(b"%x\r\n%b\r\n" % (len(data), data))
                await writer.drain()
                await asyncio.sleep(PAUSE)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def note(delays, delay):
    """Keeps at most so many: of a long run a random part."""
    if len(delays) < 1_000_000:
        delays.append(delay)
    else:
        delays[random.randrange(len(delays))] = delay


async def client(port, path, until, delays, counts):
    body = json.dumps({"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hello " * 200}]}).encode()
    while time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                         % (path.encode(), len(body), body))
            seen = 0
            while (line := await reader.readline()) not in (b"", b"0\r\n"):
                if line.startswith(b"data: {"):
                    note(delays, time.monotonic_ns() - json.loads(line[6:])["t"])
                    seen += 1
            counts["whole" if seen == CHUNKS else "cut"] += 1
            writer.close()
        except OSError:
            counts["cut"] += 1


async def measure(port, path, streams, seconds):
    delays, counts = [], {"whole": 0, "cut": 0}
    until = time.monotonic() + seconds
    await asyncio.gather(*(client(port, path, until, delays, counts) for _ in range(streams)))
    cuts = statistics.quantiles(delays, n=100)
    return {"median": cuts[49] / 1e6, "p99": cuts[98] / 1e6, **counts}


def tokens(port):
    """Tokens by type, as nightbell has counted them."""
    query = urllib.parse.quote('sum by (type) (gen_ai_tokens_total{source="proxy",type=~"input|output"})')
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={query}", timeout=30) as answer:
        series = json.load(answer)["data"]["result"]
    return {one["metric"]["type"]: int(float(one["value"][1])) for one in series}


def memory(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1024


async def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("nightbell")
    arguments.add_argument("--streams", type=int, default=200)
    arguments.add_argument("--seconds", type=float, default=30)
    arguments.add_argument("--minutes", type=float, help="in place of seconds")
    arguments.add_argument("--reload", action="store_true", help="reload the configuration every two seconds meanwhile")
    arguments.add_argument("--reload-every", type=float, metavar="SECONDS", help="reload it so often")
    options = arguments.parse_args()
    if options.minutes:
        options.seconds = 60 * options.minutes
    every = options.reload_every or (2 if options.reload else None)
    server = await asyncio.start_server(provide, "127.0.0.1", 0)
    provider = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "nightbell.yml"
        config.write_text(f"collectors:\n  host: {{}}\n  llm_proxy:\n  - {{name: p, upstream: \"http://127.0.0.1:{provider}\"}}\n")
        port = 19_908
        process = await asyncio.create_subprocess_exec(options.nightbell, "--listen", f"127.0.0.1:{port}", "--state-dir", f"{folder}/state", "--config",
                                                       str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
        while True:
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                break
            except OSError:
                await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        direct = await measure(provider, "/v1/chat/completions", options.streams, min(options.seconds, 30))
        before = memory(process)

        async def reload():
            while every:
                await asyncio.sleep(every)
                os.kill(process.pid, signal.SIGHUP)
        reloads = asyncio.create_task(reload())
        through = await measure(port, "/llm/p/v1/chat/completions", options.streams, options.seconds)
        reloads.cancel()
        print(f"directly:  {direct}\nthrough:   {through}")
        print(f"added:     median {through['median'] - direct['median']:.2f} ms, p99 {through['p99'] - direct['p99']:.2f} ms")
        print(f"memory:    {before} MiB before, {memory(process)} MiB after")
        # What is counted is seen at the next collection.
        await asyncio.sleep(20)
        counted = await asyncio.to_thread(tokens, port)
        expected = 10 * through["whole"]
        print(f"tokens:    {counted} counted, {expected} in whole answers, each of input and output")
        process.terminate()
        await process.wait()
        if through["cut"] or set(counted.values()) != {expected}:
            sys.exit(1)


asyncio.run(main())
