#!/usr/bin/env python3
"""Two origins and two edges around NATS with the configuration that is shipped: its permissions let every node do its
part, an edge no more than that, and the other origin takes over.

    cluster_test.py BINARY            needs nats-server

Exits with 0 if everything held, and says what it saw.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PASSWORDS = {"origin": "an-origin", "edge": "an-edge"}
JSON = {"content-type": "application/json"}
ORIGINS, EDGES = ["origin-1", "origin-2"], ["edge-1", "edge-2"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, condition, seconds=15.0):
    begin = time.monotonic()
    while not (seen := condition()):
        assert time.monotonic() - begin < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return seen


class Cluster:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.bus, self.ports = free_port(), {name: free_port() for name in ORIGINS + EDGES}
        self.processes = {}
        text = (HERE / "nats/nats-server.conf").read_text()
        for shipped, here in {"0.0.0.0:4222": f"127.0.0.1:{self.bus}", "0.0.0.0:8222": "127.0.0.1:-1", "/data": f"{folder}/js"}.items():
            assert shipped in text, shipped
            text = text.replace(shipped, here)
        (folder / "nats.conf").write_text(text)

    def start(self, name, command, environment):
        log = open(self.folder / f"{name}.log", "ab")
        self.processes[name] = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)

    def start_bus(self):
        passwords = {f"NATS_{role.upper()}_PASSWORD": word for role, word in PASSWORDS.items()}
        self.start("nats", ["nats-server", "-c", str(self.folder / "nats.conf")], passwords)

    def start_node(self, name):
        role = name.split("-")[0]
        environment = {
            "TICKCAST_LISTEN": f"127.0.0.1:{self.ports[name]}",
            "TICKCAST_SOURCE": "sim",
            "TICKCAST_WORKERS": "1",
            "TICKCAST_CLUSTER_URL": f"nats://127.0.0.1:{self.bus}",
            "TICKCAST_CLUSTER_ROLE": role,
            "TICKCAST_CLUSTER_NAME": name,
            "TICKCAST_CLUSTER_USER": role,
            "TICKCAST_CLUSTER_PASSWORD": PASSWORDS[role],
        }
        self.start(name, [self.binary], environment)

    def get(self, name, path, body=None):
        """Status and text; 0 where nobody listens."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[name]}{path}", body, JSON)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()
        except OSError as error:
            return 0, str(error)

    def are_ready(self, *names):
        return all(self.get(name, "/readyz")[0] == 200 for name in names)

    def active(self):
        return [name for name in ORIGINS if "\ntickcast_cluster_active 1\n" in self.get(name, "/metrics")[1]]

    def says(self, role, line):
        """What NATS answers to a line of its protocol."""
        who = json.dumps({"user": role, "pass": PASSWORDS[role], "verbose": False})
        with socket.create_connection(("127.0.0.1", self.bus)) as bus:
            bus.settimeout(5)
            bus.sendall(f"CONNECT {who}\r\n{line}\r\nPING\r\n".encode())
            text = ""
            while "PONG" not in text:
                text += bus.recv(65_536).decode()
            return text

    def end(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


def nodes_do_their_part(cluster):
    cluster.start_bus()
    for name in ORIGINS + EDGES:
        cluster.start_node(name)
    begin = time.monotonic()
    until("all are ready", lambda: cluster.are_ready(*ORIGINS, *EDGES))
    assert len(cluster.active()) == 1
    print(f"  two origins, two edges: ready after {time.monotonic() - begin:.1f} s, {cluster.active()[0]} is active")
    for name in ORIGINS + EDGES:
        status, text = cluster.get(name, "/publish/news", b'{"from":"%s"}' % name.encode())
        assert status == 200, f"{name}: {text}"
        last = f'{{"from":"{name}"}}'
        until(f"{last} is at {EDGES[0]}", lambda: cluster.get(EDGES[0], "/snapshot/news") == (200, last))
    # Read from JetStream by who comes later.
    cluster.processes[EDGES[1]].kill()
    cluster.processes[EDGES[1]].wait()
    cluster.start_node(EDGES[1])
    until("the edge is back", lambda: cluster.are_ready(EDGES[1]))
    assert cluster.get(EDGES[1], "/snapshot/news") == (200, '{"from":"edge-2"}')


def an_edge_does_no_more(cluster):
    lines = [f"PUB {subject} 2\r\n{{}}" for subject in (
        "tickcast.market", "tickcast-origin", "$KV.tickcast-lease.origin", "$JS.API.STREAM.CREATE.other",
        "$JS.API.STREAM.DELETE.tickcast", "$JS.API.STREAM.PURGE.tickcast", "$JS.API.STREAM.DELETE.KV_tickcast-lease",
    )]  # fmt: skip
    lines += ["SUB tickcast-publish.> 1", "SUB $KV.> 1"]
    for line in lines:
        assert "Permissions Violation" in cluster.says("edge", line), line
    assert "-ERR" not in cluster.says("edge", "SUB tickcast.> 1")
    print(f"  an edge was refused {len(lines)} things that are not its own")


def another_takes_over(cluster):
    [active] = cluster.active()
    other = next(name for name in ORIGINS if name != active)
    cluster.processes[active].kill()
    begin = time.monotonic()
    until(f"{other} is active", lambda: cluster.active() == [other])
    took = time.monotonic() - begin
    status, text = cluster.get(EDGES[0], "/publish/news", b'{"after":1}')
    print(f"  {active} killed: {other} was active after {took:.1f} s, and took what an edge published: {status}")
    assert status == 200, text
    assert took < 3.0


def nobody_is_ready_without_the_bus(cluster):
    cluster.processes["nats"].kill()
    until("the edges are not ready", lambda: [cluster.get(name, "/readyz")[0] for name in EDGES] == [503, 503])
    assert cluster.get(EDGES[0], "/healthz")[0] == 200
    cluster.processes["nats"].wait()
    cluster.start_bus()
    begin = time.monotonic()
    until("the edges are ready again", lambda: cluster.are_ready(*EDGES))
    print(f"  without NATS the edges are alive and not ready; {time.monotonic() - begin:.1f} s after its start they are")


def nothing_was_refused(cluster):
    """None of the nodes did what their user may not."""
    for log in cluster.folder.glob("*-*.log"):
        assert not re.search("(?i)violation|authorization", log.read_text()), f"{log.name}: {log.read_text()}"


def main(binary):
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(binary, pathlib.Path(folder))
        try:
            nodes_do_their_part(cluster)
            an_edge_does_no_more(cluster)
            another_takes_over(cluster)
            nobody_is_ready_without_the_bus(cluster)
            nothing_was_refused(cluster)
        except BaseException:
            for log in cluster.folder.glob("*.log"):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
            raise
        finally:
            cluster.end()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: cluster_test.py BINARY")
    main(str(pathlib.Path(sys.argv[1]).resolve()))
