#!/usr/bin/env python3
"""What a growing data folder costs: start-up, memory, and the latency of hits and lists.

    python3 bench/growth.py --modgate target/release/modgate [--sizes 10,1000,100000] [--out growth.md]

Data folders with so many kept versions, ten for each module, and one module with 10,000 versions, are made here: files in the
layout of the data folder, and their rows in the index. Each is served without upstream. Latencies are medians over requests one
after the other on one connection, each for another file or list, chosen by chance; the second pass asks for the same once more.
"""

import argparse
import hashlib
import http.client
import io
import os
import random
import socket
import sqlite3
import statistics
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path

REQUESTS = 2000
MANY = 10_000
STARTS = 5


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Gate:
    def __init__(self, program, data):
        self.port = free_port()
        arguments = ["serve", "--listen", f"127.0.0.1:{self.port}", "--data", data, "--upstream", "off", "--sumdb", "off"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("MODGATE_")}
        begin = time.perf_counter()
        self.process = subprocess.Popen([program, *arguments], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            self.line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                if self.get("/healthz"):
                    break
            except OSError:
                time.sleep(0.0005)
        self.started = (time.perf_counter() - begin) * 1e3

    def get(self, path):
        self.line.request("GET", path)
        reply = self.line.getresponse()
        body = reply.read()
        if reply.status != 200:
            raise SystemExit(f"{path}: {reply.status}: {body[:200]}")
        return body

    def median(self, paths):
        """Microseconds per request."""
        took = []
        for path in paths:
            begin = time.perf_counter()
            self.get(path)
            took.append((time.perf_counter() - begin) * 1e6)
        return statistics.median(took)

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def fill(program, data, modules, versions):
    """Writes the files of all versions of all modules, and their rows."""
    Gate(program, data).stop()
    rows, now = [], int(time.time() * 1000)

    def keep(folder, name, content):
        (folder / name).write_bytes(content)
        key = str((folder / name).relative_to(data))
        rows.append((key, key.rpartition("/")[0], len(content), hashlib.sha256(content).digest(), now, now))

    for module in modules:
        folder = Path(data) / "go" / module / "@v"
        folder.mkdir(parents=True)
        for version in versions:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr(f"{module}@{version}/go.mod", f"module {module}\n")
                archive.writestr(f"{module}@{version}/a.go", "package a\n" * 40)
            keep(folder, f"{version}.info", f'{{"Version":"{version}","Time":"2024-01-01T00:00:00Z"}}'.encode())
            keep(folder, f"{version}.mod", f"module {module}\n".encode())
            keep(folder, f"{version}.zip", packed.getvalue())
        (folder / "list").write_text("".join(f"{version}\n" for version in versions))
    with sqlite3.connect(Path(data) / "records.db") as records:
        columns = "key, folder, size, sha256, kept_at_ms, used_at_ms"
        records.executemany(f"INSERT INTO objects ({columns}) VALUES (?, ?, ?, ?, ?, ?)", rows)
    os.sync()


def measure(program, modules, versions, chance):
    with tempfile.TemporaryDirectory() as data:
        fill(program, data, modules, versions)
        starts = []
        for _ in range(STARTS):
            gate = Gate(program, data)
            starts.append(gate.started)
            time.sleep(0.5)
            idle = gate.rss()
            gate.stop()
        gate = Gate(program, data)
        chosen = [(chance.choice(modules), chance.choice(versions)) for _ in range(REQUESTS)]
        cells = [statistics.median(starts), idle]
        for ending in ("info", "mod", "zip"):
            paths = [f"/{module}/@v/{version}.{ending}" for module, version in chosen]
            cells += [gate.median(paths), gate.median(paths)]
        lists = [f"/{module}/@v/list" for module, _ in chosen[: REQUESTS // 4]]
        cells += [gate.median(lists), gate.median(lists), gate.rss()]
        gate.stop()
        return cells


HEADS = ["start to first 200, ms", "idle RSS, MiB", "info, µs", "again", "mod, µs", "again", "zip, µs", "again", "list, µs", "again", "RSS after, MiB"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modgate", required=True)
    parser.add_argument("--sizes", default="10,1000,100000", help="kept versions")
    parser.add_argument("--out")
    args = parser.parse_args()
    chance = random.Random(1)
    lines = ["| kept versions | " + " | ".join(HEADS) + " |", "| --- " * (len(HEADS) + 1) + "|"]
    first = None
    for size in [int(size) for size in args.sizes.split(",")]:
        modules = [f"bench.example/group{number % 97}/module{number}" for number in range(max(1, size // 10))]
        cells = measure(args.modgate, modules, [f"v1.{minor}.0" for minor in range(10)], chance)
        first = first or cells
        shown = [f"{cell:.1f}" + ("" if cells is first else f" ({cell / base:.2f}x)") for cell, base in zip(cells, first)]
        lines.append(f"| {size:,} | " + " | ".join(shown) + " |")
        print(lines[-1], flush=True)
    cells = measure(args.modgate, ["bench.example/many"], [f"v1.{minor}.0" for minor in range(MANY)], chance)
    lines.append(f"| {MANY:,} of one module | " + " | ".join(f"{cell:.1f} ({cell / base:.2f}x)" for cell, base in zip(cells, first)) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        Path(args.out).write_text(text)


if __name__ == "__main__":
    main()
