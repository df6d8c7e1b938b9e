#!/usr/bin/env python3
"""Every line of a log is counted exactly once: nightbell reads a log that is written and rotated in every way, and is killed with `kill -9` at
random instants.

usage: tests/bench/log_kills.py [--size 10000] [--kills 100] [--seed N] [--nightbell target/release/nightbell]

`--size` is in megabytes, all in all. Between two kills a part of it is written, and the log rotated by rename to a name of its own, by numbers as
RotatingFileHandler does, by numbers with older files compressed, and by copying and truncating; before, after or while nightbell runs. Prints a
line for each tenth of the kills and the figures at the end. Exit status 1 when a line is missing or counted twice, when what is shown goes back, or
when a file was lost.
"""
import argparse, gzip, os, random, shutil, subprocess, sys, tempfile, time, urllib.request
from process import port, resident

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--size", type=int, default=10_000, help="megabytes")
arguments.add_argument("--kills", type=int, default=100)
arguments.add_argument("--seed", type=int, default=int(time.time()), help="of the random instants, printed")
arguments.add_argument("--nightbell", default="target/release/nightbell")
options = arguments.parse_args()

KEEP = 9
KINDS = ["rename", "numbered", "compressed", "copytruncate"]
LINE = "2026-11-30 12:00:00,000 %s number %012d of a log that rotates, answered 200 after 12 ms, 5312 bytes for /api/v1/items\n"
chance = random.Random(options.seed)


class Log:
    """A log, its rotated files, and how many lines were ever written into it."""

    def __init__(self, folder):
        os.mkdir(os.path.join(folder, "log"))
        self.path = os.path.join(folder, "log", "app.log")
        self.lines = self.errors = self.bytes = 0
        open(self.path, "w").close()

    def write(self, size):
        """Appends about so many bytes in uneven pieces, so that lines are seen in halves."""
        with open(self.path, "ab", buffering=0) as out:
            while size > 0:
                block = []
                for _ in range(chance.randrange(1, 8000)):
                    is_error = self.lines % 1000 == 0
                    block.append(LINE % ("ERROR" if is_error else "INFO", self.lines))
                    self.lines += 1
                    self.errors += is_error
                data = "".join(block).encode()
                cut = chance.randrange(len(data))
                out.write(data[:cut])
                out.write(data[cut:])
                size -= len(data)
                self.bytes += len(data)

    def beside(self, suffix):
        return self.path + suffix

    def shift(self):
        for packed in ["", ".gz"]:
            oldest = self.beside(f".{KEEP}{packed}")
            if os.path.exists(oldest):
                os.remove(oldest)
        for number in range(KEEP - 1, 0, -1):
            for packed in ["", ".gz"]:
                old = self.beside(f".{number}{packed}")
                if os.path.exists(old):
                    os.rename(old, self.beside(f".{number + 1}{packed}"))

    def rotate(self, kind):
        if kind == "rename":
            folder = os.path.dirname(self.path)
            own = sorted(name for name in os.listdir(folder) if name.startswith("app.log-"))
            for name in own[:-3]:
                os.remove(os.path.join(folder, name))
            os.rename(self.path, self.beside(f"-{self.lines:020d}"))
        else:
            self.shift()
        if kind == "compressed":
            for number in range(2, KEEP):
                plain = self.beside(f".{number}")
                if os.path.exists(plain):
                    with open(plain, "rb") as source, gzip.open(plain + ".gz", "wb", 1) as packed:
                        shutil.copyfileobj(source, packed, 1 << 20)
                    shutil.copystat(plain, plain + ".gz")
                    os.remove(plain)
        if kind in ("numbered", "compressed"):
            os.rename(self.path, self.beside(".1"))
        if kind == "copytruncate":
            shutil.copy(self.path, self.beside(".1"))
            os.truncate(self.path, 0)
        else:
            open(self.path, "a").close()


class Nightbell:
    def __init__(self, folder, log):
        self.port, self.state = port(), os.path.join(folder, "state")
        self.config, self.output = os.path.join(folder, "n.yml"), open(os.path.join(folder, "output"), "wb")
        with open(self.config, "w") as out:
            out.write("rules: {shipped: false}\ncollectors:\n  log_file:\n")
            out.write(f"  - {{name: a, path: '{log.path}', interval: 1s, start: beginning, max_bytes: 10GB, count: {{n: {{contains: number}}, e: {{contains: ERROR}}}}}}\n")
        self.start()

    def start(self):
        words = [options.nightbell, "--config", self.config, "--state-dir", self.state, "--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(words, stdout=self.output, stderr=self.output)

    def kill(self):
        peak = resident(self.process, "VmHWM")
        self.process.kill()
        self.process.wait()
        return peak

    def shown(self):
        """The samples of the log; none while it starts."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        found = {}
        for line in text.splitlines():
            if line.startswith("log_"):
                series, value = line.rsplit(" ", 1)
                name = series.split("{", 1)[0]
                if 'pattern="' in series:
                    name += "_" + series.split('pattern="', 1)[1].split('"', 1)[0]
                found[name] = found.get(name, 0) + float(value)
        return found

    def wait(self, holds, what):
        deadline = time.time() + 60
        while time.time() < deadline:
            if self.process.poll() is not None:
                sys.exit(f"nightbell ended by itself, {what}")
            found = self.shown()
            if found and holds(found):
                return found
            time.sleep(0.05)
        sys.exit(f"not within a minute: {what}; shown {self.shown()}")


def main():
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="nightbell-kills-") as folder:
        log = Log(folder)
        nightbell = Nightbell(folder, log)
        highest, peak, begun, mistakes = 0, 0.0, time.time(), 0
        # What was rotated before the very first look is not read, by design (docs/collectors.md).
        nightbell.wait(lambda found: found.get("log_files", 0) == 1, "the first look")
        step = options.size * 1_000_000 // options.kills
        for number in range(options.kills):
            kind = KINDS[number % len(KINDS)] if number < len(KINDS) else chance.choice(KINDS)
            when = chance.choice(["running", "down"])
            log.write(step // 2)
            if when == "running":
                log.rotate(kind)
            # Some instant: while it starts, reads, or saves.
            time.sleep(chance.random() * 1.5)
            peak = max(peak, nightbell.kill())
            log.write(step // 4)
            if when == "down":
                log.rotate(kind)
            log.write(step - step // 2 - step // 4)
            nightbell.start()
            # So many files are kept that it never has to fall behind by more than a few of them.
            wanted = log.lines if number % 3 == 2 else 1
            found = nightbell.wait(lambda found: found.get("log_matches_total_n", 0) >= wanted, f"lines after kill {number + 1}")
            now = found["log_matches_total_n"]
            if now < highest or now > log.lines:
                mistakes += 1
                print(f"kill {number + 1}, {kind} while {when}: {now:.0f} lines are shown after {highest:.0f}; {log.lines} were written", flush=True)
            highest = max(highest, now)
            if (number + 1) % max(options.kills // 10, 1) == 0:
                print(f"{number + 1:4} kills, {log.bytes / 1e6:8.0f} MB, {log.lines} lines written, {now:.0f} counted", flush=True)
        found = nightbell.wait(lambda found: found.get("log_matches_total_n", 0) >= log.lines, "all lines at the end")
        peak = max(peak, nightbell.kill())
        lost = found.get("log_files_lost_total", 0)
        is_exact = found["log_matches_total_n"] == log.lines and found["log_matches_total_e"] == log.errors
        print(f"{log.lines} lines written, {found['log_matches_total_n']:.0f} counted; {log.errors} errors written, {found['log_matches_total_e']:.0f} counted; "
              f"files lost {lost:.0f}; {log.bytes / 1e6:.0f} MB and {options.kills} kills in {time.time() - begun:.0f} s; at most {peak:.0f} MB resident")
        sys.exit(0 if is_exact and not lost and not mistakes else 1)


if __name__ == "__main__":
    main()
