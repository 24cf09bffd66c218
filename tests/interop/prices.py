"""Proves that every price is exact: replays a capture and compares each snapshot with its own sums.

Usage: prices.py BINARY CAPTURE
Starts the server itself, so as to be there from the first message on. Every snapshot must be the state
after some prefix of the capture, to the last digit, and the last one the state after all of it.
"""

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from decimal import Context, Decimal, setcontext

import zstandard
from websockets.exceptions import ConnectionClosed

from checks import STEP_LIMIT_SECONDS, Mismatch, expect, expect_equal, expect_same_bytes, get, get_json, join, run

# The minute of the bundled capture in a second, which still leaves time for hundreds of snapshots.
PACED_SPEED = 60
PACED_SNAPSHOTS = 10
# With an interval of 0 a snapshot follows a change at once.
SILENCE_SECONDS = 1.0
LISTENING = re.compile(r"tickcast \S+ listening on (http://\S+)/")
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

EXACT = ("last", "bid", "ask", "bid_size", "ask_size", "open", "high", "low", "volume", "change", "trades", "ts")
ROUNDED = {"vwap": 8, "change_pct": 2}
# Quotients are compared with far more digits than anybody prints.
PRECISION = 60


# The state, computed from the raw messages


class Symbol:
    """One symbol's figures after some prefix of the capture; `None` is not known yet."""

    def __init__(self):
        self.last = self.bid = self.ask = self.bid_size = self.ask_size = None
        self.open = self.high = self.low = self.volume = self.trades = self.change = None
        self.vwap = self.change_pct = self.turnover = self.ts = None

    def apply(self, message):
        kind = message.get("e", "bookTicker")
        if kind == "bookTicker":
            self.bid, self.bid_size = Decimal(message["b"]), Decimal(message["B"])
            self.ask, self.ask_size = Decimal(message["a"]), Decimal(message["A"])
        elif kind == "trade":
            self.trade(Decimal(message["p"]), Decimal(message["q"]))
        else:
            expect("message of the capture", "bookTicker, trade or depthUpdate", message, kind == "depthUpdate")
        millis = message.get("T", message.get("E"))
        if millis is not None:
            self.ts = millis * 1000

    def trade(self, price, quantity):
        if self.trades is None:
            self.open = self.high = self.low = price
            self.volume = self.turnover = Decimal(0)
            self.trades = 0
        self.last = price
        self.high, self.low = max(self.high, price), min(self.low, price)
        self.volume += quantity
        self.turnover += price * quantity
        self.trades += 1
        self.change = price - self.open
        self.vwap = self.turnover / self.volume if self.volume else None
        self.change_pct = 100 * self.change / self.open

    def differences(self, seen):
        """The figures in which `seen` is another state: name, expected, seen."""
        wrong = [(key, getattr(self, key), seen.get(key, "nothing")) for key in EXACT]
        wrong = [(key, expected, figure) for key, expected, figure in wrong if figure != expected]
        for key, decimals in ROUNDED.items():
            expected, figure = getattr(self, key), seen.get(key, "nothing")
            if not is_rounded(expected, figure, decimals):
                wrong.append((key, expected if expected is None else f"{expected} to {decimals} decimals", figure))
        return wrong


def is_rounded(exact, figure, decimals):
    """Whether `figure` is `exact` to so many decimals; a half may have gone either way."""
    if exact is None or not isinstance(figure, Decimal):
        return figure is exact
    # The server's quotient has 28 digits: what it takes for a half may be a little beside it.
    slack = Decimal(1).scaleb(-decimals) / 2 + Decimal(1).scaleb(-15)
    return figure.as_tuple().exponent >= -decimals and abs(figure - exact) <= slack


class Replay:
    """The state after a prefix of the capture; the prefix only grows."""

    def __init__(self, messages):
        self.messages = messages
        self.applied = 0
        self.symbols = {}

    def step(self):
        """Applies one message; returns the name of the symbol that it changed."""
        message = self.messages[self.applied]
        self.applied += 1
        name = message["s"]
        self.symbols.setdefault(name, Symbol()).apply(message)
        return name

    def differences(self, name, seen):
        if name not in self.symbols:
            return [("symbol", "not there", "there")]
        if name not in seen:
            return [("symbol", "there", "not there")]
        return self.symbols[name].differences(seen[name])

    def advance_to(self, seen, what):
        """Grows the prefix until its state is `seen`."""
        wrong = {name: self.differences(name, seen) for name in seen.keys() | self.symbols.keys()}
        start, nearest = self.applied, None
        while any(wrong.values()):
            count = sum(map(len, wrong.values()))
            if nearest is None or count < nearest[0]:
                nearest = (count, self.applied, {name: figures for name, figures in wrong.items() if figures})
            if self.applied == len(self.messages):
                _, prefix, figures = nearest
                text = "\n".join(
                    f"    {name} {key}: expected {expected}, seen {figure}"
                    for name in sorted(figures)
                    for key, expected, figure in figures[name]
                )
                expected = f"the state after {start} to {self.applied} messages of the capture"
                raise Mismatch(what, expected, f"none of them; after {prefix}, the nearest:\n{text}")
            name = self.step()
            wrong[name] = self.differences(name, seen)


def read_capture(path):
    with open(path, "rb") as file:
        raw = file.read()
    if raw.startswith(ZSTD_MAGIC):
        raw = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True).read()
    messages = [json.loads(line.split(b" ", 1)[1]) for line in raw.splitlines()]
    return [message.get("data", message) for message in messages]


# The snapshots, as served


def plain_decimal(text):
    """A figure without an exponent or a negative zero: neither is what an exchange sends."""
    figure = Decimal(text)
    is_negative_zero = figure.is_zero() and figure.is_signed()
    expect("figure of a snapshot", "plain digits", text, "e" not in text.lower() and not is_negative_zero)
    return figure


def no_constant(text):
    raise Mismatch("figure of a snapshot", "a number of JSON", text)


def read_snapshot(frame):
    expect("frame of market", "text", type(frame).__name__, isinstance(frame, str))
    snapshot = json.loads(frame, parse_float=plain_decimal, parse_int=plain_decimal, parse_constant=no_constant)
    expect_equal("type of a frame of market", "snapshot", snapshot.get("type"))
    names = list(snapshot.get("symbols", {}))
    expect("symbols of a snapshot", "sorted, at least one", names, names and names == sorted(names))
    return snapshot


@asynccontextmanager
async def serving(binary, capture, speed):
    """A server that replays the capture once; yields its base URL and the process.

    Who sends it a signal may leave; it must then end cleanly.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TICKCAST_", "WS_"))}
    arguments = ["--listen", "127.0.0.1:0", "--broadcast-interval", "0"]
    arguments += ["--source", f"replay:{capture}", "--replay-speed", str(speed), "--replay-loop", "false"]
    pipe = asyncio.subprocess.PIPE
    try:
        server = await asyncio.create_subprocess_exec(binary, *arguments, env=environment, stderr=pipe)
    except OSError as error:
        raise Mismatch("server", "a program that starts", error) from None
    said = []
    log = None
    try:
        base = await listening(server, said)
        # A full pipe would stop the server at its next word.
        log = asyncio.create_task(read_log(server, said))
        yield base, server
        code = await asyncio.wait_for(server.wait(), STEP_LIMIT_SECONDS)
        expect("exit code after SIGTERM", 0, f"{code}; it said:\n{''.join(said)}", code == 0)
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
        if log:
            await log


async def listening(server, said):
    async with asyncio.timeout(STEP_LIMIT_SECONDS):
        async for line in server.stderr:
            said.append(line.decode())
            if match := LISTENING.fullmatch(said[-1].strip()):
                return match[1]
    raise Mismatch("stderr of the server", f"a line {LISTENING.pattern}", "".join(said) or "nothing")


async def read_log(server, said):
    async for line in server.stderr:
        said.append(line.decode())


async def count_applied(base):
    """How many messages of the capture the server has applied. It must understand each."""
    stats = await get_json(f"{base}/stats")
    expect_equal("source errors of /stats", {}, stats["source_errors"])
    return sum(stats["source_messages"].values())


async def collect(client, base, count):
    """All frames up to the silence after the last message of the capture."""
    frames = []
    silent_seconds = applied = 0
    while silent_seconds < STEP_LIMIT_SECONDS:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                frames.append(await client.recv())
            silent_seconds = 0
        except TimeoutError:
            # One more silence, for the snapshot of what was applied just before it was counted.
            if applied == count:
                return frames
            silent_seconds += SILENCE_SECONDS
            applied = await count_applied(base)
        except ConnectionClosed as closed:
            raise Mismatch("frames of market", "all of the capture", f"{len(frames)}, then {closed}") from None
    raise Mismatch("source messages of /stats", f"{count}, those of the capture", f"{applied}, then silence")


async def watch(binary, capture, speed, count):
    """The frames of one replay."""
    async with serving(binary, capture, speed) as (base, server):
        async with join(base, "market") as client:
            frames = await collect(client, base, count)
            expect("frames of market", "at least one", "none", frames)
            last = await get(f"{base}/snapshot/market")
            expect_same_bytes("GET /snapshot/market, against the last frame", frames[-1].encode(), last)
            server.send_signal(signal.SIGTERM)
            await client.wait_closed()
            answer = client.protocol.close_rcvd
            expect("end of the connection at SIGTERM", "Close 1012", answer, answer and answer.code == 1012)
    return frames


def check_frames(frames, messages, speed):
    """Compares each snapshot with the capture; returns how many different states there were."""
    replay = Replay(messages)
    prefixes = set()
    seq = ts = 0
    for n, snapshot in enumerate(map(read_snapshot, frames)):
        what = f"snapshot {n + 1} of {len(frames)} at speed {speed}, seq {snapshot['seq']}"
        expect(what, f"seq after {seq}", snapshot["seq"], snapshot["seq"] > seq)
        expect(what, f"ts at least {ts}", snapshot["ts"], snapshot["ts"] >= ts)
        seq, ts = snapshot["seq"], snapshot["ts"]
        replay.advance_to(snapshot["symbols"], what)
        prefixes.add(replay.applied)
    while replay.applied < len(messages):
        replay.step()
    # The last messages may repeat what was known: states tell, prefixes do not.
    what = f"last snapshot at speed {speed}, against the whole capture"
    replay.advance_to(snapshot["symbols"], what)
    return len(prefixes)


async def check(binary, capture):
    setcontext(Context(prec=PRECISION))
    messages = read_capture(capture)
    results = []
    for speed in (PACED_SPEED, 0):
        frames = await watch(binary, capture, speed, len(messages))
        states = check_frames(frames, messages, speed)
        if speed == PACED_SPEED:
            expect("different states seen in the paced replay", f"at least {PACED_SNAPSHOTS}", states, states >= PACED_SNAPSHOTS)
        results.append(f"{len(frames)} snapshots ({states} states) at speed {speed}")
    return f"prices.py: ok, every figure exact in {' and '.join(results)}, {len(messages)} messages"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: prices.py BINARY CAPTURE", file=sys.stderr)
        sys.exit(2)
    run(check(*sys.argv[1:]))
