#!/usr/bin/env python3
"""What a growing data folder costs: start-up, memory, and the latency of hits and lists.

    python3 bench/growth.py --modgate target/release/modgate [--sizes 10,1000,100000] [--out growth.md]

Data folders with so many kept versions, ten for each module, and one module with 10,000 versions, are made here: files in the
layout of the data folder with the seals that the server gives them, and their rows in the index. Each is served without upstream, by a server of its own. Latencies are medians
over requests one after the other on one connection, each for a file or list chosen by chance; all servers are asked in turn. The second
pass asks for the same once more.
"""

import argparse
import hashlib
import io
import os
import random
import re
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
    """A server, and one connection to it."""

    def __init__(self, program, data):
        self.port = free_port()
        arguments = ["serve", "--listen", f"127.0.0.1:{self.port}", "--data", data, "--upstream", "off", "--sumdb", "off"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("MODGATE_")}
        begin = time.perf_counter()
        self.process = subprocess.Popen([program, *arguments], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                self.line = socket.create_connection(("127.0.0.1", self.port), 30)
                break
            except OSError:
                time.sleep(0.0005)
        self.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.get("/healthz")
        self.started = (time.perf_counter() - begin) * 1e3

    def get(self, path):
        """Microseconds until the last byte is here. A client of few instructions, so that the server is what is measured."""
        request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        begin = time.perf_counter()
        self.line.sendall(request)
        said = self.line.recv(1 << 16)
        head = said.index(b"\r\n\r\n") + 4
        missing = int(re.search(rb"(?i)content-length: (\d+)", said[:head])[1]) - (len(said) - head)
        while missing > 0:
            missing -= len(self.line.recv(1 << 16))
        took = (time.perf_counter() - begin) * 1e6
        if not said.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{path}: {said[:300]}")
        return took

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def seal(path, key, length):
    """Gives a file the last digits of its time that tell the server that it is as it was kept (crates/store/src/seal.rs)."""
    whole = 2**64 - 1
    millis = path.stat().st_mtime_ns // 1_000_000
    named = 0xCBF29CE484222325
    for byte in key.encode():
        named = (named ^ byte) * 0x100000001B3 & whole
    mixed = millis ^ (length << 40 | length >> 24) & whole ^ named
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & whole
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & whole
    mixed ^= mixed >> 31
    time = millis * 1_000_000 + 1 + mixed % 999_999
    os.utime(path, ns=(time, time))


def fill(program, data, modules, versions):
    """Writes the files of all versions of all modules, and their rows."""
    Gate(program, data).stop()
    rows, now = [], int(time.time() * 1000)

    def keep(folder, name, content):
        (folder / name).write_bytes(content)
        key = str((folder / name).relative_to(data))
        seal(folder / name, key, len(content))
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


class Kept:
    """A data folder of so many versions, and its server."""

    def __init__(self, program, base, name, modules, versions, chance):
        self.name, self.program, self.modules, self.versions = name, program, modules, versions
        self.data = str(base / name.replace(" ", "-"))
        fill(program, self.data, modules, versions)
        self.chosen = [(chance.choice(modules), chance.choice(versions)) for _ in range(REQUESTS)]

    def start(self):
        starts = []
        for _ in range(STARTS):
            gate = Gate(self.program, self.data)
            starts.append(gate.started)
            time.sleep(0.5)
            idle = gate.rss()
            gate.stop()
        self.gate = Gate(self.program, self.data)
        self.cells = [statistics.median(starts), idle]

    def paths(self, what):
        if what == "list":
            return [f"/{module}/@v/list" for module, _ in self.chosen]
        return [f"/{module}/@v/{version}.{what}" for module, version in self.chosen]


def measure(folders):
    """All servers are asked in turn, so that what else the machine does is the same for all; and all on one core, since waking
    another one takes longer than an answer, and which one a connection is served on is chance."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for kept in folders:
        kept.start()
    for what in ("info", "mod", "zip", "list"):
        asked = [(kept, kept.paths(what)) for kept in folders]
        for _ in range(2):
            took = [[] for _ in folders]
            for at in range(REQUESTS):
                for (kept, paths), times in zip(asked, took):
                    times.append(kept.gate.get(paths[at]))
            for kept, times in zip(folders, took):
                kept.cells.append(statistics.median(times))
    for kept in folders:
        kept.cells.append(kept.gate.rss())
        kept.gate.stop()


HEADS = ["start to first 200, ms", "idle RSS, MiB", "info, µs", "again", "mod, µs", "again", "zip, µs", "again", "list, µs", "again", "RSS after, MiB"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modgate", required=True)
    parser.add_argument("--sizes", default="10,1000,100000", help="kept versions")
    parser.add_argument("--out")
    args = parser.parse_args()
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as base:
        folders = []
        for size in [int(size) for size in args.sizes.split(",")]:
            modules = [f"bench.example/group{number % 97}/module{number}" for number in range(max(1, size // 10))]
            folders.append(Kept(args.modgate, Path(base), f"{size:,}", modules, [f"v1.{minor}.0" for minor in range(10)], chance))
        many = [f"v1.{minor}.0" for minor in range(MANY)]
        folders.append(Kept(args.modgate, Path(base), f"{MANY:,} of one module", ["bench.example/many"], many, chance))
        measure(folders)
    lines = ["| kept versions | " + " | ".join(HEADS) + " |", "| --- " * (len(HEADS) + 1) + "|"]
    first = folders[0].cells
    for kept in folders:
        shown = [f"{cell:.1f}" + ("" if kept.cells is first else f" ({cell / base:.2f}x)") for cell, base in zip(kept.cells, first)]
        lines.append(f"| {kept.name} | " + " | ".join(shown) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        Path(args.out).write_text(text)


if __name__ == "__main__":
    main()
