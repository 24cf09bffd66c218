"""Talks to a running server with the `websockets` package and checks what such a client sees.

Usage: client.py http://127.0.0.1:PORT
The server replays or simulates a market, with a broadcast interval of at most a second.
"""

import asyncio
import json
import os
import random
import re
import statistics
import sys
import time
from contextlib import AsyncExitStack

from websockets.exceptions import InvalidStatus

from checks import (
    STEP_LIMIT_SECONDS,
    Mismatch,
    expect,
    expect_equal,
    expect_same_bytes,
    get,
    get_json,
    join,
    receive,
    request,
    run,
    websocket_url,
)

CLIENTS = 5
FOLLOWED = 20
LINES = 500
LARGE_BYTES = 2_500_000
FIRST_FRAME_SECONDS = 0.1
# On a busy machine one connection may have to wait for a processor; most do not.
FIRST_FRAME_SAMPLES = 5
# Wide enough for any clock, narrow enough to tell microseconds from other units.
CLOCK_TOLERANCE_SECONDS = 60

FIGURES = (
    "last", "bid", "ask", "bid_size", "ask_size", "open", "high", "low",
    "volume", "vwap", "change", "change_pct", "trades", "ts",
)  # fmt: skip
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[a-z_]+="[^"\\\n]*"(?:,[a-z_]+="[^"\\\n]*")*\})? (\S+)')


def channel_name(purpose):
    """A channel that no earlier run against the same server has used."""
    return f"interop-{purpose}-{os.getpid()}-{time.time_ns()}"


# The market


async def until_ready(base):
    deadline = time.monotonic() + STEP_LIMIT_SECONDS
    while True:
        status, body = await request(f"{base}/snapshot/market")
        if status == 200:
            return
        seen = f"status {status}: {body[:200]!r}"
        expect("GET /snapshot/market", f"status 200 within {STEP_LIMIT_SECONDS} s", seen, time.monotonic() < deadline)
        await asyncio.sleep(0.05)


def read_snapshot(frame):
    """The snapshot in a frame of `market`, its form checked."""
    expect("frame of market", "text", type(frame).__name__, isinstance(frame, str))
    try:
        snapshot = json.loads(frame)
    except ValueError as error:
        raise Mismatch("frame of market", "JSON", f"{error}: {frame[:200]!r}") from None
    expect_equal("type of a frame of market", "snapshot", snapshot.get("type"))
    expect_equal("channel of a frame of market", "market", snapshot.get("channel"))
    for key in ("seq", "ts"):
        expect(f"{key} of a snapshot", "a positive integer", snapshot.get(key), is_count(snapshot.get(key)) and snapshot[key])
    age = time.time() - snapshot["ts"] / 1e6
    expect("ts of a snapshot", "microseconds, about now", snapshot["ts"], abs(age) < CLOCK_TOLERANCE_SECONDS)
    names = list(snapshot.get("symbols", {}))
    expect("symbols of a snapshot", "sorted, at least one", names, names and names == sorted(names))
    for name, figures in snapshot["symbols"].items():
        expect(f"figures of {name}", f"at least {FIGURES}", list(figures), set(FIGURES) <= set(figures))
        for key in FIGURES:
            expect(f"{key} of {name}", "a number or null", figures[key], figures[key] is None or is_number(figures[key]))
        for key in ("trades", "ts"):
            expect(f"{key} of {name}", "an integer or null", figures[key], figures[key] is None or is_count(figures[key]))
    return snapshot


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


async def check_first_frames(base):
    """Who connects gets the last snapshot at once. Returns the typical delay."""
    delays = []
    for _ in range(FIRST_FRAME_SAMPLES):
        before = (await get_json(f"{base}/snapshot/market"))["seq"]
        start = time.monotonic()
        async with join(base, "market") as client:
            frame = await receive(client, "first frame of market")
            delays.append(time.monotonic() - start)
            after = (await get_json(f"{base}/snapshot/market"))["seq"]
        seq = read_snapshot(frame)["seq"]
        expect("seq of the first frame", f"the last published, {before} to {after}", seq, before <= seq <= after)
    typical = statistics.median(delays)
    expected = f"within {FIRST_FRAME_SECONDS} s of connecting, mostly"
    expect("first frame of market", expected, f"{delays} s", typical <= FIRST_FRAME_SECONDS)
    return typical


async def follow(client, count):
    """`count` snapshots and the one before them; nothing between them is missing."""
    last = read_snapshot(await receive(client, "first frame of market"))
    for _ in range(count):
        snapshot = read_snapshot(await receive(client, "next frame of market"))
        expect_equal("seq", last["seq"] + 1, snapshot["seq"])
        expect("ts", f"at least {last['ts']}", snapshot["ts"], snapshot["ts"] >= last["ts"])
        last = snapshot
    return last


async def check_market(base):
    await until_ready(base)
    typical = await check_first_frames(base)
    async with join(base, "market") as client:
        last = await follow(client, FOLLOWED)
        await check_figures(base, client, last["seq"])
    return typical


# /stats and /metrics


async def published_in_stats(base):
    stats = await get_json(f"{base}/stats")
    for key in ("connections", "messages_published", "frames_sent", "frames_dropped", "bytes_sent"):
        expect(f"{key} of /stats", "a count", stats.get(key), is_count(stats.get(key)))
    expect("connections of /stats", "at least 1", stats["connections"], stats["connections"] >= 1)
    market = [channel for channel in stats["channels"] if channel["name"] == "market"]
    expect("market in /stats", "once", stats["channels"], len(market) == 1)
    return market[0]["messages_published"]


def parse_metrics(text):
    """Samples by name and labels. Each belongs to a family that was announced with HELP and TYPE."""
    kinds, helps, samples = {}, set(), {}
    expect("/metrics", "a line feed at the end", text[-20:], text.endswith("\n"))
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helps.add(line.split(" ", 3)[2])
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            expect(f"type of {name}", "one, of a known kind", line, name not in kinds and kind in ("counter", "gauge", "histogram"))
            kinds[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            expect("line of /metrics", "name, labels, value", line, match)
            name, labels, value = match.groups()
            family = re.sub("_(bucket|sum|count)$", "", name)
            family = family if kinds.get(family) == "histogram" else name
            expect(f"family of {line}", "HELP and TYPE before it", sorted(kinds), family in kinds and family in helps)
            expect(line, "no other sample of the same name and labels", samples.get((name, labels)), (name, labels) not in samples)
            samples[name, labels] = float(value)
    for name in (name for name, kind in kinds.items() if kind == "histogram"):
        check_histogram(name, samples)
    return samples


def check_histogram(name, samples):
    buckets = [value for (sample, _), value in samples.items() if sample == f"{name}_bucket"]
    expect(f"buckets of {name}", "cumulative", buckets, buckets and buckets == sorted(buckets))
    endless = samples.get((f"{name}_bucket", '{le="+Inf"}'))
    expect_equal(f"last bucket of {name}", samples.get((f"{name}_count", None)), endless)


async def published_in_metrics(base):
    samples = parse_metrics((await get(f"{base}/metrics")).decode())
    connections = samples.get(("tickcast_connections", '{channel="market"}'))
    expect("connections of market in /metrics", "at least 1", connections, connections and connections >= 1)
    published = samples.get(("tickcast_messages_published_total", '{channel="market"}'))
    expect("messages published on market in /metrics", "a count", published, published is not None)
    return int(published)


async def check_figures(base, client, received):
    """What was received is counted, and the count only grows, whoever asks."""
    counts = [received]
    for figures in (published_in_stats, published_in_metrics) * 2:
        counts.append(await figures(base))
        # The last snapshot is one more, so that the count of the next figures has to grow.
        received = read_snapshot(await receive(client, "next frame of market"))["seq"]
    expected = "never falling: last seq received, /stats, /metrics, /stats, /metrics"
    expect("messages published on market", expected, counts, counts == sorted(counts))
    counts.append(await published_in_stats(base))
    expect("messages published on market", f"at least {received}, the last seq received", counts, counts[-1] >= received)


# Control frames


async def check_pings(base):
    async with join(base, "market") as client:
        for payload in (b"", b"tick", bytes(125)):
            # The package takes a Pong for an answer only if it carries the same payload.
            pong = await client.ping(payload)
            try:
                async with asyncio.timeout(STEP_LIMIT_SECONDS):
                    await pong
            except TimeoutError:
                raise Mismatch(f"Ping {payload!r}", "a Pong", f"none in {STEP_LIMIT_SECONDS} s") from None


async def check_closes(base):
    for code, reason in ((1000, ""), (1001, "going"), (3000, ""), (4001, "näher"), (4999, "x" * 123)):
        async with join(base, "market", close_timeout=STEP_LIMIT_SECONDS) as client:
            await receive(client, "first frame of market")
            await client.close(code, reason)
        # `close_code` would be the code sent if the server closed the socket without a word.
        answer = client.protocol.close_rcvd
        expect(f"answer to Close {code}", f"Close {code}", answer, answer and answer.code == code)


# Publishing over HTTP


async def publish(base, channel, body, content_type, published, subscribers):
    status, answer = await request(f"{base}/publish/{channel}", body, content_type)
    expect(f"POST of {content_type}", "status 200", f"status {status}: {answer[:200]!r}", status == 200)
    expect_equal(f"answer to a POST of {content_type}", {"published": published, "subscribers": subscribers}, json.loads(answer))


async def join_all(base, channel, stack, first, **options):
    """Several clients that have each received the channel's last message."""
    clients = []
    for _ in range(CLIENTS):
        client = await stack.enter_async_context(join(base, channel, **options))
        await expect_next([client], first, "first message")
        clients.append(client)
    return clients


async def expect_next(clients, expected, what):
    """The next message of every client, of the same type and to the byte."""
    for client in clients:
        seen = await receive(client, what)
        expect(what, type(expected).__name__, type(seen).__name__, type(seen) is type(expected))
        as_bytes = [message.encode() if isinstance(message, str) else message for message in (expected, seen)]
        expect_same_bytes(what, *as_bytes)


async def check_publishing(base):
    channel = channel_name("kinds")
    # Spacing, order, escapes and digits that a server which parsed and printed would not keep.
    first = '{ "b": 1.10, "a":[1e2,\t-0.0], "text": "\\u00e9 é" }'
    await publish(base, channel, first.encode(), "application/json", 1, 0)
    async with AsyncExitStack() as stack:
        clients = await join_all(base, channel, stack, first)

        lines = [f'{{"line": {n}, "price":{n}.50, "é": "{n:x}"}}' for n in range(LINES)]
        body = "".join(f"{line}\n" for line in lines).encode()
        await publish(base, channel, body, "application/x-ndjson", LINES, CLIENTS)
        for n, line in enumerate(lines):
            await expect_next(clients, line, f"line {n}")

        # That each of these comes next shows that no line came twice.
        text = "Grüße, 市場 🦀 \u0000 \ufeff\nsecond line\n"
        await publish(base, channel, text.encode(), "text/plain", 1, CLIENTS)
        await expect_next(clients, text, "text/plain")

        data = bytes(range(256)) + random.Random(1).randbytes(70_000)
        await publish(base, channel, data, "application/octet-stream", 1, CLIENTS)
        await expect_next(clients, data, "application/octet-stream")


def large_json():
    randomness = random.Random(2)
    rows, size = [], 0
    while size < LARGE_BYTES:
        rows.append(f'{{"row":{len(rows)}, "id":"{randomness.randbytes(24).hex()}", "price":{randomness.random():.12f}}}')
        size += len(rows[-1]) + 1
    return f"[{','.join(rows)}]"


async def check_large(base):
    channel = channel_name("large")
    message = large_json()
    await publish(base, channel, b"0", "application/json", 1, 0)
    async with AsyncExitStack() as stack:
        clients = await join_all(base, channel, stack, "0", max_size=2 * LARGE_BYTES)
        await publish(base, channel, message.encode(), "application/json", 1, CLIENTS)
        await expect_next(clients, message, "large message")
        expect_same_bytes("GET /snapshot of the large message", message.encode(), await get(f"{base}/snapshot/{channel}"))
        # Those who come later get it too.
        await join_all(base, channel, stack, message, max_size=2 * LARGE_BYTES)
    return len(message)


# Refusals


async def check_unknown_channel(base):
    channel = channel_name("unknown")
    try:
        async with join(base, channel):
            raise Mismatch(websocket_url(base, channel), "status 404", "a connection")
    except InvalidStatus as refused:
        response = refused.response
    expect_equal("status for an unknown channel", 404, response.status_code)
    reason = json.loads(response.body).get("error")
    expect("body for an unknown channel", 'JSON with an "error"', response.body, isinstance(reason, str) and reason)


async def check(base):
    typical = await check_market(base)
    await check_pings(base)
    await check_closes(base)
    await check_publishing(base)
    size = await check_large(base)
    await check_unknown_channel(base)
    return (
        f"client.py: ok, first frame in {typical * 1000:.1f} ms, {FOLLOWED} snapshots in order, Pings and Closes answered, "
        f"{LINES} lines to each of {CLIENTS} clients, text, binary, {size} bytes intact, 404"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: client.py http://127.0.0.1:PORT", file=sys.stderr)
        sys.exit(2)
    run(check(sys.argv[1].rstrip("/")))
