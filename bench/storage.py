#!/usr/bin/env python3
"""What the storage tiers cost: memory on and off, Redis, object storage below the disk and without one, beside a bare client.

    python3 bench/storage.py --modgate target/release/modgate [--rounds 3] [--secs 2] [--out storage.md]

Needs `wrk`, `redis-server`, and `versitygw` (by scripts/test in target/test-tools) as the object storage. Every subject keeps the same
modules, and is asked for them in turn, all of them warm: over 32 connections for requests per second, over one for the median time.
The bare client is `wrk` too, with a signed URL for each object of the bucket. All subjects take turns in each round; cells are medians.
All programs share the machine's cores.
"""

import argparse
import datetime
import hashlib
import hmac
import http.server
import io
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
import zipfile
from pathlib import Path

KEY, SECRET, REGION, BUCKET = "bench", "benchbenchbench", "us-east-1", "modgate"
# Modules of each kind, and the bytes of their one file, which does not compress.
KINDS = {"small": (200, 16_000), "medium": (20, 2_000_000), "large": (4, 36_000_000)}
ROWS = {"mod": ("small", "mod"), "zip 18 KB": ("small", "zip"), "zip 2 MB": ("medium", "zip"), "zip 36 MB": ("large", "zip")}
MEMORY, DISK = '[[storage]]\ntier = "memory"\n', '[[storage]]\ntier = "disk"\n'
LUA = """
local paths = {}
for line in io.lines(os.getenv("PATHS")) do paths[#paths + 1] = line end
local at = 0
request = function()
  at = at % #paths + 1
  return wrk.format("GET", paths[at])
end
done = function(summary, latency)
  local bad = summary.errors.status + summary.errors.read + summary.errors.connect + summary.errors.timeout
  print(string.format("FIGURES %f %f %d", summary.requests / summary.duration * 1e6, latency:percentile(50), bad))
end
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(port):
    for _ in range(1000):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise SystemExit(f"nothing listens on port {port}")


def modules(kind):
    return [f"bench.example/{kind}{number}" for number in range(KINDS[kind][0])]


def make_upstream(root):
    chance = random.Random(1)
    for kind, (_, size) in KINDS.items():
        for module in modules(kind):
            folder = root / module / "@v"
            folder.mkdir(parents=True)
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr(f"{module}@v1.0.0/go.mod", f"module {module}\n")
                archive.writestr(f"{module}@v1.0.0/data", chance.randbytes(size))
            (folder / "v1.0.0.zip").write_bytes(packed.getvalue())
            (folder / "v1.0.0.mod").write_text(f"module {module}\n")
            (folder / "v1.0.0.info").write_text('{"Version":"v1.0.0","Time":"2024-01-01T00:00:00Z"}')


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def presigned(port, key):
    """The path of a GET that needs no header but Host (Signature Version 4, in the query)."""
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    scope = f"{day}/{REGION}/s3/aws4_request"
    path = urllib.request.quote(f"/{BUCKET}/{key}")
    query = "&".join([
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "X-Amz-Credential=" + urllib.request.quote(f"{KEY}/{scope}", safe=""),
        f"X-Amz-Date={stamp}",
        "X-Amz-Expires=86400",
        "X-Amz-SignedHeaders=host",
    ])
    request = f"GET\n{path}\n{query}\nhost:127.0.0.1:{port}\n\nhost\nUNSIGNED-PAYLOAD"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signing = f"AWS4{SECRET}".encode()
    for part in (day, REGION, "s3", "aws4_request"):
        signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()
    return f"{path}?{query}&X-Amz-Signature={signature}"


class Bench:
    def __init__(self, program, base):
        self.program, self.base, self.running = os.path.abspath(program), base, []
        self.lua = base / "paths.lua"
        self.lua.write_text(LUA)
        self.subjects = {}

    def start(self, command, port, env=None):
        with open(self.base / f"{port}.log", "wb") as log:
            self.running.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        wait_for(port)

    def services(self):
        root = self.base / "upstream"
        make_upstream(root)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Quiet(*args, directory=root))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.upstream = server.server_port
        self.redis, self.s3 = free_port(), free_port()
        redis = ["redis-server", "--port", str(self.redis), "--save", "", "--dir", str(self.base)]
        self.start(redis, self.redis)
        objects, attributes = self.base / "objects", self.base / "attributes"
        (objects / BUCKET).mkdir(parents=True)
        attributes.mkdir()
        found = shutil.which("versitygw") or str(Path(__file__).parent.parent / "target/test-tools/versitygw")
        gateway = [found, "--port", f"127.0.0.1:{self.s3}", "--region", REGION, "--quiet", "--keep-alive", "posix", "--sidecar", str(attributes), str(objects)]
        self.start(gateway, self.s3, dict(os.environ, ROOT_ACCESS_KEY=KEY, ROOT_SECRET_KEY=SECRET))

    def gate(self, name, tables):
        port, data = free_port(), self.base / f"data-{len(self.subjects)}"
        config = self.base / f"{port}.toml"
        config.write_text(f'listen = "127.0.0.1:{port}"\ndata = "{data}"\nchain = "http://127.0.0.1:{self.upstream}"\n[sumdb]\nname = "off"\n{tables}')
        env = {name: value for name, value in os.environ.items() if not name.startswith("MODGATE_")}
        self.start([self.program, "serve", "--config", str(config)], port, dict(env, BENCH_KEY=KEY, BENCH_SECRET=SECRET))
        for kind in KINDS:
            for module in modules(kind):
                for ending in ("info", "mod", "zip"):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/{module}/@v/v1.0.0.{ending}").read()
        self.subjects[name] = (port, lambda key: f"/{key}")

    def all_subjects(self):
        s3 = (
            f'[[storage]]\ntier = "s3"\nbucket = "{BUCKET}"\nendpoint = "http://127.0.0.1:{self.s3}"\nregion = "{REGION}"\n'
            'access_key = { env = "BENCH_KEY" }\nsecret_key = { env = "BENCH_SECRET" }\n'
        )
        redis = f'[[storage]]\ntier = "redis"\nurl = "redis://127.0.0.1:{self.redis}"\nmax_entry = "4MiB"\n'
        self.gate("memory, disk", MEMORY + DISK)
        self.gate("disk", DISK)
        self.gate("memory, disk, bucket", MEMORY + DISK + s3)
        self.gate("memory, bucket", MEMORY + s3)
        self.gate("redis, bucket", redis + s3)
        self.gate("bucket", s3)
        self.subjects["bare client of the bucket"] = (self.s3, lambda key: presigned(self.s3, f"go/{key}"))

    def load(self, port, paths, connections, seconds):
        listed = self.base / "paths"
        listed.write_text("".join(f"{path}\n" for path in paths))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(self.lua), f"http://127.0.0.1:{port}"]
        said = subprocess.run(command, env=dict(os.environ, PATHS=str(listed)), capture_output=True, text=True, check=True).stdout
        rate, median, bad = re.search(r"FIGURES (\S+) (\S+) (\d+)", said).groups()
        if int(bad):
            raise SystemExit(f"{bad} requests failed:\n{said}")
        return float(rate), float(median)

    def stop(self):
        for process in reversed(self.running):
            process.terminate()
            process.wait(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modgate", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=int, default=2)
    parser.add_argument("--out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storage-bench-") as base:
        bench = Bench(args.modgate, Path(base))
        try:
            bench.services()
            bench.all_subjects()
            figures = {}
            for _ in range(args.rounds):
                for row, (kind, ending) in ROWS.items():
                    for name, (port, path) in bench.subjects.items():
                        paths = [path(f"{module}/@v/v1.0.0.{ending}") for module in modules(kind)]
                        rate, _ = bench.load(port, paths, 32, args.secs)
                        _, median = bench.load(port, paths, 1, args.secs)
                        figures.setdefault((row, name), []).append((rate, median))
        finally:
            bench.stop()
    lines = ["| tiers | " + " | ".join(f"{row}: req/s (of disk), µs (of bare)" for row in ROWS) + " |", "| --- " * (len(ROWS) + 1) + "|"]
    middle = {at: [statistics.median(column) for column in zip(*runs)] for at, runs in figures.items()}
    for name in bench.subjects:
        cells = []
        for row in ROWS:
            rate, median = middle[row, name]
            disk, bare = middle[row, "memory, disk"][0], middle[row, "bare client of the bucket"][1]
            cells.append(f"{rate:,.0f} ({rate / disk:.2f}), {median:,.0f} ({median / bare:.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        Path(args.out).write_text(text)


if __name__ == "__main__":
    main()
