#!/usr/bin/env python3
"""Direct fetch beside what peers run inside: `go mod download -json` and `go list -m -json -versions` in direct mode.

    python3 bench/direct.py --modgate target/release/modgate [--rounds 7] [--out direct.md]

Everything is local: repositories made here, served by `git http-backend` over plain http behind a forward proxy, so that
both sides do the same work, discovery included. Without --modgate only go is measured.

- empty: `go` with an empty module cache, as in a throw-away folder. kept: with a cache that knows the repository by an
  earlier question, but not the answer; for the first version of a repository, a cache that knows other repositories.
- modgate: one process, asked over http as a client does: `.info`, `.mod`, `.zip` for a version, one request for a query or
  a list. First with nothing kept of the repository, then, beside go's kept cache, with its mirror kept.

Each round has repositories of its own, and its subjects take turns in being first. The server, and the one who looks at the
memory every 5 ms, are processes of their own. CPU and memory are those of the subject with all its child processes, memory as the
highest sum of their resident sets at one time. Cells are medians over the rounds; wall time with its lowest and highest.
"""

import argparse
import http.client
import http.server
import json
import os
import resource
import shutil
import socket
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

# Row, wanted beside an empty cache, wanted beside a kept one.
ROWS = {
    "first": ("first version of a repository", 2, 1),
    "next": ("next version of the same repository", 10, 2),
    "branch": ("branch query", 1, 1),
    "list": (f"list of a repository with {TAGS:,} tags", 5, 1),
    "crowd": (f"{CROWD} clients for {CROWD} versions at once", 1, 1),
}


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

    def grow(self, tag):
        """One more commit, with a tag if so; the version of that."""
        self.time += 3600
        text = f"package p\n// {self.time}\n"
        commit = (
            f"commit refs/heads/main\ncommitter Ann <ann@bench.test> {self.time} +0000\ndata 1\nc\n"
            f"from refs/heads/main^0\nM 100644 inline grown.go\ndata {len(text)}\n{text}\n"
        )
        self.load([commit, self.tag()] if tag else [commit])
        return f"v1.0.{self.patch - 1}"


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 512


class Handler(http.server.BaseHTTPRequestHandler):
    """A forward proxy under which bench.test has the pages and git.bench.test the repositories."""

    protocol_version = "HTTP/1.1"
    # Head and body are written apart; with it, the body would wait for the client's delayed acknowledgement.
    disable_nagle_algorithm = True
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
    """Peak memory of all processes below `pid`, itself counted if `own`, seen by a process of its own."""

    def __init__(self, pid, own):
        self.arguments = [sys.executable, __file__, "--watch", str(pid), str(int(own))]

    def __enter__(self):
        pipe = subprocess.PIPE
        self.child = subprocess.Popen(self.arguments, stdin=pipe, stdout=pipe, text=True)
        # It has looked once.
        self.child.stdout.readline()
        return self

    def __exit__(self, *_):
        self.peak = int(self.child.communicate()[0])


def watch(pid, own):
    """Looks until nobody listens any more."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    peak = 0
    print("looking", flush=True)
    while True:
        peak = max(peak, sum(map(rss, tree(pid) if own else tree(pid)[1:])))
        if ended.wait(0.005):
            print(peak)
            return


def carry():
    """Runs all commands of a line at once; tells the time, the CPU of all below, and what went wrong."""
    for line in sys.stdin:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        running = []
        for command in json.loads(line):
            out = tempfile.TemporaryFile()
            child = subprocess.Popen(**command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            running.append((child, out))
        failed = ""
        for child, out in running:
            status = child.wait()
            out.seek(0)
            text = out.read().decode()
            if status or '"Error"' in text:
                failed = text or f"exit status {status}"
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(json.dumps({"wall": wall, "cpu": cpu, "failed": failed}), flush=True)


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
    """`go` in direct mode. Each run is one process of its own, below one that carries them."""

    def __init__(self, proxy, folder):
        self.folder, self.count = folder, 0
        self.work = folder / "work"
        self.work.mkdir()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GOCACHE": str(folder / "build"),
            "GOPROXY": "direct", "GOSUMDB": "off", "GOVCS": "*:all", "GOINSECURE": "*.test", "GOTOOLCHAIN": "local",
            "GOFLAGS": "-modcacherw", "GOENV": "off", "GOTELEMETRY": "off", "GOWORK": "off",
            "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
            "HTTP_PROXY": proxy, "http_proxy": proxy, "HTTPS_PROXY": proxy, "https_proxy": proxy,
        }
        pipe = subprocess.PIPE
        arguments = [sys.executable, __file__, "--carry"]
        self.carrier = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True)

    def run(self, *runs):
        """Wall time and CPU in seconds and peak bytes of (cache, arguments) run at once."""
        commands = [
            {"args": ["go", *args], "cwd": str(self.work), "env": dict(self.env, GOMODCACHE=str(cache))}
            for cache, args in runs
        ]
        with Watch(self.carrier.pid, own=False) as seen:
            self.carrier.stdin.write(json.dumps(commands) + "\n")
            self.carrier.stdin.flush()
            done = json.loads(self.carrier.stdout.readline())
        if done["failed"]:
            raise SystemExit(f"go {runs[0][1]}: {done['failed']}")
        return done["wall"], done["cpu"], seen.peak

    def download(self, cache, one, *versions):
        runs = [(cache, ["mod", "download", "-json", f"{one.module}@{version}"]) for version in versions]
        return self.run(*runs)

    def query(self, cache, one):
        return self.run((cache, ["list", "-m", "-json", f"{one.module}@main"]))

    def list(self, cache, one):
        return self.run((cache, ["list", "-m", "-json", "-versions", one.module]))

    def fresh(self):
        self.count += 1
        return self.folder / f"cache{self.count}"

    def stop(self):
        self.carrier.stdin.close()
        self.carrier.wait(30)


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

    def run(self, *clients):
        """Wall time and CPU in seconds and peak bytes of clients that come at once, each with its paths."""
        with Watch(self.child.pid, own=True) as seen:
            before = self.cpu()
            start = time.perf_counter()
            if len(clients) == 1:
                self.get(*clients[0])
            else:
                with ThreadPoolExecutor(len(clients)) as pool:
                    list(pool.map(lambda paths: self.get(*paths), clients))
            wall = time.perf_counter() - start
            used = self.cpu() - before
        return wall, used, seen.peak

    def cpu(self):
        """Its own, and that of children that have ended."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def download(self, one, *versions):
        parts = ("info", "mod", "zip")
        return self.run(*([f"{one.module}/@v/{version}.{part}" for part in parts] for version in versions))

    def query(self, one):
        return self.run([f"{one.module}/@v/main.info"])

    def list(self, one):
        return self.run([f"{one.module}/@v/list"])

    def stop(self):
        self.child.terminate()
        self.child.wait(30)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(root):
    """Serves the repositories until nobody listens any more."""
    Handler.root = Path(root)
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


def main():
    if sys.argv[1:2] == ["--watch"]:
        return watch(int(sys.argv[2]), sys.argv[3] == "1")
    if sys.argv[1:2] == ["--carry"]:
        return carry()
    if sys.argv[1:2] == ["--serve"]:
        return serve(sys.argv[2])
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--modgate", help="the program to measure")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", default=",".join(ROWS), help="which rows, of these")
    parser.add_argument("--out", help="write the table here too")
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="direct-bench-"))
    root = base / "repositories"
    root.mkdir()
    pipe = subprocess.PIPE
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(root)], stdin=pipe, stdout=pipe, text=True)
    (base / "go").mkdir()
    port = int(server.stdout.readline())
    go = Go(f"http://127.0.0.1:{port}", base / "go")
    gate = Modgate(os.path.abspath(args.modgate), port, base) if args.modgate else None
    try:
        measure(args, root, go, gate)
    finally:
        if gate:
            gate.stop()
        go.stop()
        server.stdin.close()
        server.wait(30)
        shutil.rmtree(base, ignore_errors=True)


def measure(args, root, go, gate):
    print(f"# {args.rounds} rounds, {os.cpu_count()} cores", file=sys.stderr)
    rows = {}
    for row in args.rows.split(","):
        act = globals()[f"row_{row}"]
        for number in range(args.rounds):
            turns = act(root, go, gate, number)
            names = [name for name in turns if gate or not name.startswith("modgate")]
            # Who is first finds the server's caches cold.
            at = number % len(names)
            for name in names[at:] + names[:at]:
                rows.setdefault(row, {}).setdefault(name, []).append(turns[name]())
        said = ", ".join(f"{name} {statistics.median(run[0] for run in runs) * 1000:.0f} ms" for name, runs in rows[row].items())
        print(f"# {ROWS[row][0]}: {said}", file=sys.stderr)
    text = table(rows)
    print(text)
    if args.out:
        Path(args.out).write_text(text)
    print(json.dumps(rows), file=sys.stderr)


# Each row gives what its subjects do in a round, after what is not measured.


def row_first(root, go, gate, number):
    one = Repository(root, f"first{number}")
    kept = go.folder / "kept"
    if not kept.exists():
        go.download(kept, Repository(root, "other"), "v1.0.5")
    return {
        "empty": lambda: go.download(go.fresh(), one, "v1.0.5"),
        "kept": lambda: go.download(kept, one, "v1.0.5"),
        "modgate": lambda: gate.download(one, "v1.0.5"),
    }


def row_next(root, go, gate, number):
    one = Repository(root, f"next{number}")
    kept = go.fresh()
    go.download(kept, one, "v1.0.0")
    if gate:
        gate.download(one, "v1.0.0")
    version = one.grow(tag=True)
    return {
        "empty": lambda: go.download(go.fresh(), one, version),
        "kept": lambda: go.download(kept, one, version),
        "modgate": lambda: gate.download(one, version),
    }


def row_branch(root, go, gate, number):
    new, known = Repository(root, f"branch{number}"), Repository(root, f"moved{number}")
    kept = go.fresh()
    go.query(kept, known)
    if gate:
        gate.query(known)
    known.grow(tag=False)
    return {
        "empty": lambda: go.query(go.fresh(), new),
        "kept": lambda: go.query(kept, known),
        "modgate": lambda: gate.query(new),
        "modgate kept": lambda: gate.query(known),
    }


def row_list(root, go, gate, number):
    new, known = (Repository(root, f"{name}{number}", commits=TAGS, tag_every=1) for name in ("list", "listed"))
    kept = go.fresh()
    go.list(kept, known)
    if gate:
        gate.list(known)
    known.grow(tag=True)
    return {
        "empty": lambda: go.list(go.fresh(), new),
        "kept": lambda: go.list(kept, known),
        "modgate": lambda: gate.list(new),
        "modgate kept": lambda: gate.list(known),
    }


def row_crowd(root, go, gate, number):
    new, known = (Repository(root, f"{name}{number}", commits=2 * CROWD + 2, tag_every=2) for name in ("crowd", "again"))
    versions = [f"v1.0.{at}" for at in range(CROWD)]
    kept = go.fresh()
    go.download(kept, known, f"v1.0.{CROWD}")
    if gate:
        gate.download(known, f"v1.0.{CROWD}")

    def strangers():
        # Nobody shares a throw-away folder.
        runs = [(go.fresh(), ["mod", "download", "-json", f"{new.module}@{version}"]) for version in versions]
        return go.run(*runs)

    return {
        "empty": strangers,
        "kept": lambda: go.download(kept, known, *versions),
        "modgate": lambda: gate.download(new, *versions),
        "modgate kept": lambda: gate.download(known, *versions),
    }


def table(rows):
    lines = [
        "| row | go, empty cache: ms (range), CPU ms, peak MiB | go, kept cache | modgate | modgate, mirror kept "
        "| beside empty: times faster (wanted) | beside kept |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row, by in rows.items():
        title, *wanted = ROWS[row]

        def cell(subject):
            if subject not in by:
                return "-"
            walls, cpus, peaks = zip(*by[subject])
            middle = statistics.median(walls) * 1000
            edges = f"{min(walls) * 1000:.0f} to {max(walls) * 1000:.0f}"
            return f"{middle:.0f} ({edges}), {statistics.median(cpus) * 1000:.0f}, {max(peaks) / 2**20:.0f}"

        def times(theirs, ours, wanted):
            ours = by.get(ours) or by.get("modgate")
            if not ours:
                return "-"
            times = statistics.median(run[0] for run in by[theirs]) / statistics.median(run[0] for run in ours)
            return f"{times:.1f} ({wanted}: {'reached' if times >= wanted else 'missed'})"

        beside = times("empty", "modgate", wanted[0]), times("kept", "modgate kept", wanted[1])
        cells = [cell(subject) for subject in ("empty", "kept", "modgate", "modgate kept")]
        lines.append(f"| {' | '.join([title, *cells, *beside])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
