"""What the benchmarks share: a free port, what a process has used, and a target that answers."""
import http.server, os, socket

TICKS = os.sysconf("SC_CLK_TCK")


class Target(http.server.BaseHTTPRequestHandler):
    """A target, or a webhook; it logs nothing."""

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


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
