"""What the benchmarks share: a free port, and what a process has used."""
import os, socket

TICKS = os.sysconf("SC_CLK_TCK")


def port():
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu(child):
    """Seconds of CPU that a process has used."""
    with open(f"/proc/{child.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(child, what="VmRSS"):
    """Its memory in MiB; `VmHWM` is the most that it ever had."""
    with open(f"/proc/{child.pid}/status") as f:
        return next((int(line.split()[1]) / 1024 for line in f if line.startswith(f"{what}:")), 0.0)
