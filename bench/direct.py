#!/usr/bin/env python3
"""Direct fetch beside what peers run inside: `go mod download -json` and `go list` in direct mode.

    python3 bench/direct.py [--modgate target/release/modgate] [--rounds 5] [--out direct.md]

Everything is local: repositories made here, served by `git http-backend` over plain http behind a forward proxy of this
program, so that both sides do the same work, discovery included. The rows are those of docs/performance.md: wall time,
CPU and peak memory of the subject with its child processes counted, but not the server's. Without --modgate only go is
measured.

- empty: `go` with an empty module cache, as in a throw-away folder. kept: with the cache of the runs before, which has
  the repository but not the version.
- modgate: one process, asked over http as a client does. `.info`, `.mod`, `.zip` for a version; one request for a query
  or a list.
"""

import argparse
import http.client
import http.server
import json
import os
import resource
import shutil
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CONFIG = """\
listen = "127.0.0.1:{port}"
data = "{data}"
chain = "direct"

[sumdb]
name = "off"

[network]
proxy = "http://127.0.0.1:{proxy}"
insecure_hosts = ["bench.test", "git.bench.test"]

# So that each question reaches the repository.
[freshness]
list = "0s"
latest = "0s"
query = "0s"
stale_while_revalidate = "0s"
"""

TAGS = 2000
CROWD = 50


def git(*args, **kwargs):
    env = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1")
    return subprocess.run(["git", *args], check=True, env=env, capture_output=True, **kwargs).stdout


class Repository:
    """A repository that grows: some 300 files, a commit an hour, a tag where asked."""

    def __init__(self, root, name, commits=200, tag_every=20):
        self.name, self.folder = name, root / f"{name}.git"
        self.module = f"bench.test/{name}"
        git("init", "-q", "--bare", "--template=", "-b", "main", str(self.folder))
        self.time, self.patch = 1_704_067_200, 0
        parts = []
        for at in range(commits):
            parts.append(self.commit(at, first=at == 0))
            if tag_every and at % tag_every == 0:
                parts.append(self.tag())
        self.load(parts)

    def load(self, parts):
        git("-C", str(self.folder), "fast-import", "--quiet", input="".join(parts).encode())
        git("-C", str(self.folder), "pack-refs", "--all")

    def commit(self, at, first=False):
        self.time += 3600
        lines = [f"commit refs/heads/main\ncommitter Ann <ann@bench.test> {self.time} +0000\ndata 1\nc\n"]
        files = {f"f{at % 300}.go": f"package p\n\nconst C{at} = {self.time}\n" + "// filler\n" * 200}
        if first:
            files["go.mod"] = f"module {self.module}\n\ngo 1.21\n"
            for number in range(300):
                files[f"d{number % 20}/f{number}.go"] = f"package p\n// {number}\n" + f"// line {number}\n" * 150
        for name, text in files.items():
            lines.append(f"M 100644 inline {name}\ndata {len(text)}\n{text}\n")
        return "".join(lines)

    def tag(self):
        text = f"reset refs/tags/v1.0.{self.patch}\nfrom refs/heads/main\n\n"
        self.patch += 1
        return text

    def grow(self):
        """One more commit with a tag; its version."""
        self.time += 3600
        text = f"package p\n// {self.time}\n"
        self.load([
            f"commit refs/heads/main\ncommitter Ann <ann@bench.test> {self.time} +0000\ndata 1\nc\n"
            f"from refs/heads/main^0\nM 100644 inline grown.go\ndata {len(text)}\n{text}\n",
            self.tag(),
        ])
        return f"v1.0.{self.patch - 1}"


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 512


class Handler(http.server.BaseHTTPRequestHandler):
    """A forward proxy under which bench.test has the pages and git.bench.test the repositories."""

    protocol_version = "HTTP/1.1"
    root = None

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        # There is no https: go asks for it first, and is told so at once.
        self.send_response(502)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.handle_one()

    def do_POST(self):
        self.handle_one()

    def handle_one(self):
        url = urllib.parse.urlsplit(self.path)
        host = url.hostname or self.headers["Host"].split(":")[0]
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self.chunks()
        if host == "bench.test":
            name = url.path.strip("/").split("/")[0]
            if not (self.root / f"{name}.git").exists():
                return self.answer(404, "text/plain", b"none\n")
            page = f'<meta name="go-import" content="bench.test/{name} git http://git.bench.test/{name}.git">'
            return self.answer(200, "text/html", page.encode())
        env = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        out = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True).stdout
        head, _, content = out.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = int(fields.pop("Status", "200")[:3])
        self.send_response(status)
        for key, value in fields.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def chunks(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


class Watch:
    """Peak resident memory of a process and all below it, looked at every 5 ms, and the CPU they used."""

    def __init__(self, pid):
        self.pid, self.peak, self.stop = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.before = self.cpu()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.used = self.cpu() - self.before

    def run(self):
        while not self.stop.wait(0.005):
            self.peak = max(self.peak, sum(map(rss, tree(self.pid))))

    def cpu(self):
        """Its own, and that of children that have ended; those that run are few at the edges."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        except OSError:
            return 0
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def tree(pid):
    """The process and all below it."""
    found = [pid]
    for one in found:
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                found += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
        except OSError:
            pass
    return found


def rss(pid):
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


class Go:
    """`go` in direct mode. Each run is one process of its own."""

    def __init__(self, proxy, folder):
        self.folder = folder
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GOPROXY": "direct", "GOSUMDB": "off", "GOVCS": "*:all", "GOINSECURE": "*.test", "GOTOOLCHAIN": "local",
            "GOFLAGS": "-modcacherw", "GOENV": "off", "GOTELEMETRY": "off", "GOWORK": "off",
            "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
            "HTTP_PROXY": proxy, "http_proxy": proxy, "HTTPS_PROXY": proxy, "https_proxy": proxy,
        }
        self.count = 0

    def run(self, cache, *args):
        """Wall time in seconds, CPU in seconds, peak bytes."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        env = dict(self.env, GOMODCACHE=str(cache), GOCACHE=str(self.folder / "build"))
        start = time.perf_counter()
        with open(os.devnull) as null, tempfile.TemporaryFile() as out:
            child = subprocess.Popen(["go", *args], env=env, cwd=work, stdin=null, stdout=out, stderr=out)
            with Watch(child.pid) as watch:
                _, status, used = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
            wall = time.perf_counter() - start
            out.seek(0)
            text = out.read().decode()
        if child.returncode or '"Error"' in text:
            raise SystemExit(f"go {args}: {text}")
        return wall, used.ru_utime + used.ru_stime, watch.peak

    def fresh(self):
        self.count += 1
        return self.folder / f"cache{self.count}"


class Modgate:
    """One process, and a client of it."""

    def __init__(self, program, proxy_port, folder):
        port = free_port()
        config = folder / "modgate.toml"
        config.write_text(CONFIG.format(port=port, data=folder / "data", proxy=proxy_port))
        self.log = open(folder / "modgate.log", "wb")
        self.child = subprocess.Popen([program, "serve", "--config", str(config)], stdout=self.log, stderr=self.log)
        self.port = port
        for _ in range(500):
            try:
                http.client.HTTPConnection("127.0.0.1", port, timeout=5).connect()
                return
            except OSError:
                time.sleep(0.01)
        raise SystemExit(f"modgate does not start: see {self.log.name}")

    def get(self, *paths):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        for path in paths:
            connection.request("GET", "/" + path)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise SystemExit(f"modgate: {path}: {answer.status} {body[:300]!r}")
        connection.close()
        return body

    def run(self, *paths):
        with Watch(self.child.pid) as watch:
            start = time.perf_counter()
            self.get(*paths)
            wall = time.perf_counter() - start
        return wall, watch.used, watch.peak

    def version(self, module, version):
        return self.run(*(f"{module}/@v/{version}.{what}" for what in ("info", "mod", "zip")))

    def stop(self):
        self.child.terminate()
        self.child.wait(30)


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def middle(runs):
    """The medians of wall and CPU, the highest peak."""
    wall, cpu, peak = zip(*runs)
    return statistics.median(wall), statistics.median(cpu), max(peak)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--modgate", help="the program to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="write the table here too")
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="direct-bench-"))
    try:
        measure(args, base)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def measure(args, base):
    root = base / "repositories"
    root.mkdir()
    Handler.root = root
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy = f"http://127.0.0.1:{server.server_port}"
    firsts = [Repository(root, f"first{at}") for at in range(args.rounds)]
    grown = Repository(root, "grown")
    tags = Repository(root, "tags", commits=TAGS, tag_every=1)
    crowd = Repository(root, "crowd", commits=CROWD * 2, tag_every=2)
    print(f"# {args.rounds} rounds, {os.cpu_count()} cores, repositories of {len(firsts)} x 200 commits", file=sys.stderr)
    (base / "go").mkdir()
    go = Go(proxy, base / "go")
    gate = None
    if args.modgate:
        gate = Modgate(os.path.abspath(args.modgate), server.server_port, base)
    rows = {}

    def put(row, subject, runs):
        rows.setdefault(row, {})[subject] = middle(runs)
        print(f"# {row} | {subject}: {middle(runs)[0] * 1000:.0f} ms", file=sys.stderr)

    def download(cache, module, version):
        return go.run(cache, "mod", "download", "-json", f"{module}@{version}")

    row = "first version of a repository"
    put(row, "empty", [download(go.fresh(), one.module, "v1.0.5") for one in firsts])
    kept = go.fresh()
    put(row, "kept", [download(kept, one.module, "v1.0.5") for one in firsts])
    if gate:
        put(row, "modgate", [gate.version(one.module, "v1.0.5") for one in firsts])

    row = "next version of the same repository"
    download(kept, grown.module, "v1.0.0")
    if gate:
        gate.version(grown.module, "v1.0.0")
    runs = {"empty": [], "kept": [], "modgate": []}
    for _ in range(args.rounds):
        version = grown.grow()
        runs["empty"].append(download(go.fresh(), grown.module, version))
        runs["kept"].append(download(kept, grown.module, version))
        if gate:
            runs["modgate"].append(gate.version(grown.module, version))
    for subject, done in runs.items():
        if done:
            put(row, subject, done)

    row = "branch query"
    query = lambda cache, one: go.run(cache, "list", "-m", "-json", f"{one.module}@main")
    put(row, "empty", [query(go.fresh(), one) for one in firsts])
    put(row, "kept", [query(kept, one) for one in firsts])
    if gate:
        put(row, "modgate", [gate.run(f"{one.module}/@v/main.info") for one in firsts])
        put(row, "again", [gate.run(f"{one.module}/@v/main.info") for one in firsts])

    row = f"list of a repository with {TAGS} tags"
    listing = lambda cache: go.run(cache, "list", "-m", "-json", "-versions", tags.module)
    put(row, "empty", [listing(go.fresh()) for _ in range(args.rounds)])
    listing(kept)
    put(row, "kept", [listing(kept) for _ in range(args.rounds)])
    if gate:
        put(row, "modgate", [gate.run(f"{tags.module}/@v/list")])
        put(row, "again", [gate.run(f"{tags.module}/@v/list") for _ in range(args.rounds)])

    row = f"{CROWD} clients for {CROWD} versions at once"
    versions = [f"v1.0.{at}" for at in range(CROWD)]

    def together(act):
        """The wall time of all, and the sums of what each used."""
        start = time.perf_counter()
        with ThreadPoolExecutor(CROWD) as pool:
            done = list(pool.map(act, versions))
        return time.perf_counter() - start, sum(cpu for _, cpu, _ in done), sum(peak for _, _, peak in done)

    put(row, "empty", [together(lambda version: download(go.fresh(), crowd.module, version))])
    put(row, "kept", [together(lambda version: download(kept, crowd.module, version))])
    if gate:
        with Watch(gate.child.pid) as watch:
            start = time.perf_counter()
            paths = lambda version: [f"{crowd.module}/@v/{version}.{what}" for what in ("info", "mod", "zip")]
            with ThreadPoolExecutor(CROWD) as pool:
                list(pool.map(lambda version: gate.get(*paths(version)), versions))
            wall = time.perf_counter() - start
        put(row, "modgate", [(wall, watch.used, watch.peak)])
        gate.stop()
    text = table(rows)
    print(text)
    if args.out:
        Path(args.out).write_text(text)
    print(json.dumps(rows), file=sys.stderr)


def table(rows):
    lines = [
        "| row | go, empty cache: ms, CPU ms, peak MiB | go, kept cache | modgate | modgate, asked before | to empty | to kept |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row, by in rows.items():
        def cell(subject):
            if subject not in by:
                return "-"
            wall, cpu, peak = by[subject]
            return f"{wall * 1000:.0f}, {cpu * 1000:.0f}, {peak / 2**20:.0f}"

        def times(go, ours):
            ours = by.get(ours) or by.get("modgate")
            return f"{by[go][0] / ours[0]:.1f}x" if ours else "-"

        lines.append(
            f"| {row} | {cell('empty')} | {cell('kept')} | {cell('modgate')} | {cell('again')} "
            f"| {times('empty', 'modgate')} | {times('kept', 'again')} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
