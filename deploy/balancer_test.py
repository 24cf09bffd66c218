#!/usr/bin/env python3
"""Two edges behind the load balancer, for real: what clients see of limits, of an edge that is not ready, and of a
deployment that is rolled.

    balancer_test.py BINARY            needs haproxy and the package `websockets`

Exits with 0 if everything held, and says what it saw.
"""

import asyncio
import collections
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

import websockets

HERE = pathlib.Path(__file__).resolve().parent
PER_ADDRESS = 3
DRAIN = 4.0
CLIENTS = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until(what, condition, seconds=15.0):
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


class Fleet:
    """Two edges and HAProxy with the configuration that is shipped."""

    def __init__(self, binary, folder, proxy_protocol):
        self.binary, self.folder, self.proxy_protocol = binary, folder, proxy_protocol
        self.edges = [free_port(), free_port()]
        self.port, self.socket = free_port(), f"{folder}/admin.sock"
        self.processes = {}

    def start_edge(self, number, *more, source="sim"):
        command = [
            self.binary, "serve", "--listen", f"127.0.0.1:{self.edges[number]}", "--workers", "1",
            "--source", source, "--broadcast-interval", "200ms", "--drain-timeout", f"{DRAIN}s",
            "--trusted-proxies", "127.0.0.1", "--proxy-protocol", str(self.proxy_protocol).lower(), *more,
        ]  # fmt: skip
        log = open(f"{self.folder}/edge-{number + 1}.log", "ab")
        self.processes[number] = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log)

    def start_balancer(self):
        environment = os.environ | {
            "LB_LISTEN": f"127.0.0.1:{self.port}",
            "LB_STATS": f"127.0.0.1:{free_port()}",
            "LB_SOCKET": self.socket,
            "LB_MAXCONN": "1000",
            "EDGE_SLOWSTART": "2s",
            "EDGE_1": f"127.0.0.1:{self.edges[0]}",
            "EDGE_2": f"127.0.0.1:{self.edges[1]}",
        }
        if self.proxy_protocol:
            environment["LB_PROXY_PROTOCOL"] = "1"
        log = open(f"{self.folder}/haproxy.log", "ab")
        command = ["haproxy", "-db", "-f", str(HERE / "haproxy/haproxy.cfg")]
        self.processes["haproxy"] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def row(self, number):
        """What the balancer says of an edge."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as admin:
            admin.connect(self.socket)
            admin.sendall(b"show stat\n")
            lines = admin.makefile().read().splitlines()
            names = lines[0].lstrip("# ").split(",")
            for line in lines[1:]:
                row = dict(zip(names, line.split(",")))
                if row.get("pxname") == "edges" and row["svname"] == f"edge-{number + 1}":
                    return row
        return {"status": "", "throttle": ""}

    def status(self, number):
        """UP, DOWN, …"""
        return self.row(number)["status"]

    async def is_up(self, *numbers):
        """And given its whole share."""
        for number in numbers:
            whole = lambda row: row["status"] == "UP" and row["throttle"] in ("", "100")
            await until(f"edge {number + 1} is up", lambda: whole(self.row(number)))

    def clients(self, number):
        """Read without the balancer; 127.0.0.1 begins with a header where that is asked for."""
        with contextlib.suppress(OSError), socket.socket() as direct:
            direct.settimeout(5)
            direct.connect(("127.0.0.1", self.edges[number]))
            header = b"PROXY UNKNOWN\r\n" if self.proxy_protocol else b""
            direct.sendall(header + b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            for line in direct.makefile(encoding="utf-8"):
                if line.startswith('tickcast_connections{channel="market"}'):
                    return int(line.rsplit(" ", 1)[1])
        return 0

    def connect(self, address="127.0.0.1", **more):
        url = f"ws://127.0.0.1:{self.port}/ws/market"
        # Without a bound on what is read and not asked for: else a client that waits for nothing stops reading.
        return websockets.connect(url, local_addr=(address, 0), max_queue=None, compression=None, proxy=None, **more)

    def end(self):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


async def an_address_is_the_clients(fleet):
    """Limits hold for the address of the client, however many come by the balancer."""
    for number in (0, 1):
        fleet.start_edge(number, "--max-connections-per-ip", str(PER_ADDRESS))
    fleet.start_balancer()
    await fleet.is_up(0, 1)
    async with contextlib.AsyncExitStack() as inside:
        entered, refused = collections.Counter(), collections.Counter()
        for address in ("127.0.0.2", "127.0.0.3"):
            for attempt in range(2 * PER_ADDRESS + 2):
                # What a client writes there itself must not help.
                forged = {"X-Forwarded-For": f"203.0.113.{attempt}"}
                try:
                    client = await inside.enter_async_context(fleet.connect(address, additional_headers=forged))
                    assert '"snapshot"' in await client.recv()
                    entered[address] += 1
                except websockets.InvalidStatus as answer:
                    refused[answer.response.status_code] += 1
        print(f"  {PER_ADDRESS} an address at each of two edges: entered {dict(entered)}, refused {dict(refused)}")
        assert entered == {"127.0.0.2": 2 * PER_ADDRESS, "127.0.0.3": 2 * PER_ADDRESS}
        assert refused == {429: 4}
        assert fleet.clients(0) == fleet.clients(1) == 2 * PER_ADDRESS, "leastconn"


async def who_is_not_ready_gets_nobody(fleet):
    """An edge without prices lives, and gets nobody until it has some."""
    fleet.start_edge(0)
    fleet.start_edge(1, source="stdin")
    fleet.start_balancer()
    await fleet.is_up(0)
    await until("edge 2 is down", lambda: fleet.status(1) == "DOWN")
    check = fleet.row(1)["check_code"]
    print(f"  edge 2 without prices: DOWN, its check says {check}")
    assert check == "503"
    async with contextlib.AsyncExitStack() as inside:
        for _ in range(6):
            await inside.enter_async_context(fleet.connect())
        assert (fleet.clients(0), fleet.clients(1)) == (6, 0)
        tick = b'{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"1.5","q":"2","T":1,"m":true}\n'
        fleet.processes[1].stdin.write(tick)
        fleet.processes[1].stdin.flush()
        await fleet.is_up(1)
        for _ in range(6):
            await inside.enter_async_context(fleet.connect())
        print(f"  with prices: UP, then {fleet.clients(0)} and {fleet.clients(1)} clients")
        assert fleet.clients(1) > 0


class Screen:
    """A client that comes back, as one should: at once after 1012, since the server has spread that already."""

    def __init__(self):
        self.closes, self.failures, self.gaps, self.messages = [], 0, [], 0

    async def run(self, fleet):
        clock = asyncio.get_running_loop().time
        away = None
        while True:
            try:
                async with fleet.connect() as client:
                    async for _ in client:
                        if away is not None:
                            self.gaps.append(clock() - away)
                            away = None
                        self.messages += 1
            except websockets.ConnectionClosed:
                pass
            except (OSError, websockets.WebSocketException):
                self.failures += 1
                await asyncio.sleep(0.2)
                continue
            away = clock()
            self.closes.append((client.close_code, away))


async def a_roll_is_seen_as_a_close(fleet):
    """One edge after the other is replaced; its clients are told 1012, and the other edge has them at once."""
    fleet.start_edge(0)
    fleet.start_edge(1)
    fleet.start_balancer()
    await fleet.is_up(0, 1)
    screens = [Screen() for _ in range(CLIENTS)]
    tasks = [asyncio.create_task(screen.run(fleet)) for screen in screens]
    clock = asyncio.get_running_loop().time
    try:
        await until("all are there", lambda: fleet.clients(0) + fleet.clients(1) == CLIENTS)
        for number in (0, 1):
            before, told = fleet.clients(number), sum(len(screen.closes) for screen in screens)
            begin = clock()
            fleet.processes[number].send_signal(signal.SIGTERM)
            await until("the balancer sees it", lambda: fleet.status(number).startswith("DOWN"))
            seen = clock() - begin
            code = await asyncio.to_thread(fleet.processes[number].wait, DRAIN + 5)
            took = clock() - begin
            await until("all are at the other", lambda: fleet.clients(1 - number) == CLIENTS)
            closes = [close for screen in screens for close in screen.closes]
            assert code == 0, f"exit {code}"
            assert len(closes) - told == before, f"{len(closes) - told} closed of {before}"
            moments = sorted(at - begin for _, at in closes)[told:]
            print(
                f"  edge {number + 1}, {before} clients: DOWN after {seen:.1f} s, told from {moments[0]:.1f} s to "
                f"{moments[-1]:.1f} s, gone after {took:.1f} s with {code}"
            )
            assert moments[-1] <= DRAIN, "within the time to drain"
            assert moments[-1] - moments[0] > DRAIN / 3, "spread, not at once"
            fleet.start_edge(number)
            await fleet.is_up(number)
        codes = collections.Counter(code for screen in screens for code, _ in screen.closes)
        gaps = sorted(gap for screen in screens for gap in screen.gaps)
        failures = sum(screen.failures for screen in screens)
        print(
            f"  closed with {dict(codes)}, {failures} attempts failed; from Close to the next message "
            f"{gaps[len(gaps) // 2] * 1e3:.0f} ms (median), {gaps[-1] * 1e3:.0f} ms at most"
        )
        assert set(codes) == {1012}
        assert failures == 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def main(binary):
    for proxy_protocol in (False, True):
        print("PROXY protocol" if proxy_protocol else "X-Forwarded-For")
        for test in (an_address_is_the_clients, who_is_not_ready_gets_nobody, a_roll_is_seen_as_a_close):
            with tempfile.TemporaryDirectory() as folder:
                fleet = Fleet(binary, folder, proxy_protocol)
                try:
                    await test(fleet)
                except BaseException:
                    for log in pathlib.Path(folder).glob("*.log"):
                        print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
                    raise
                finally:
                    fleet.end()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: balancer_test.py BINARY")
    asyncio.run(main(str(pathlib.Path(sys.argv[1]).resolve())))
