"""What the checks of this directory share: saying what was expected and seen, HTTP, receiving, the end."""

import asyncio
import hashlib
import json
import sys
import traceback
import urllib.error
import urllib.request
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

# A test is given a minute. Threads that wait for HTTP cannot be cancelled, only waited for.
TIME_LIMIT_SECONDS = 45
STEP_LIMIT_SECONDS = 10

# A proxy of the environment is not meant for a server on this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Mismatch(Exception):
    """What was expected is not what was seen."""

    def __init__(self, what, expected, seen):
        super().__init__(f"{what}\n  expected: {expected}\n  seen:     {seen}")


def expect(what, expected, seen, is_met):
    if not is_met:
        raise Mismatch(what, expected, seen)


def expect_equal(what, expected, seen):
    expect(what, repr(expected), repr(seen), type(expected) is type(seen) and expected == seen)


def expect_same_bytes(what, expected, seen):
    """For payloads too long to be printed."""
    if expected == seen:
        return
    pairs = enumerate(zip(expected, seen))
    differs_at = next((at for at, (one, other) in pairs if one != other), min(len(expected), len(seen)))
    raise Mismatch(what, _outline(expected, differs_at), f"{_outline(seen, differs_at)}, the first difference")


def _outline(data, at):
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f"{len(data)} bytes, SHA-256 {digest}…, {data[at:at + 40]!r} at {at}"


def websocket_url(base, channel):
    return f"ws{base.removeprefix('http').rstrip('/')}/ws/{channel}"


def join(base, channel, **options):
    """A connection to a channel, as a context manager. It always reads, and sends what the check sends."""
    return connect(websocket_url(base, channel), proxy=None, ping_interval=None, max_queue=None, **options)


async def receive(client, what):
    """The next message."""
    try:
        async with asyncio.timeout(STEP_LIMIT_SECONDS):
            return await client.recv()
    except TimeoutError:
        raise Mismatch(what, "a message", f"none in {STEP_LIMIT_SECONDS} s") from None
    except ConnectionClosed as closed:
        raise Mismatch(what, "a message", f"connection closed: {closed}") from None


def _request(url, body, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with _DIRECT.open(request, timeout=STEP_LIMIT_SECONDS) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()
    except OSError as error:
        raise Mismatch(request.get_method() + " " + url, "an answer", error) from None


async def request(url, body=None, content_type=None):
    """Status and body of the answer to a GET, or to a POST of `body`."""
    return await asyncio.to_thread(_request, url, body, content_type)


async def get(url):
    """The body of an answer that must be 200."""
    status, body = await request(url)
    expect(f"GET {url}", "status 200", f"status {status}: {body[:200]!r}", status == 200)
    return body


async def get_json(url):
    body = await get(url)
    try:
        return json.loads(body)
    except ValueError as error:
        raise Mismatch(f"GET {url}", "JSON", f"{error}: {body[:200]!r}") from None


async def _limited(check):
    try:
        async with asyncio.timeout(TIME_LIMIT_SECONDS) as limit:
            return await check
    except TimeoutError as error:
        if not limit.expired():
            raise
        at = _own_frames(error.__cause__ or error)[-1]
        seen = f"still at {Path(at.filename).name}:{at.lineno}: {at.line}"
        raise Mismatch("time limit", f"the end within {TIME_LIMIT_SECONDS} s", seen) from None


def _own_frames(error):
    here = Path(__file__).parent
    return [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == here]


def run(check):
    """Runs a check to its end, prints its summary or what went wrong, and exits."""
    try:
        print(asyncio.run(_limited(check)))
    except Mismatch as mismatch:
        sys.exit(str(mismatch))
    except Exception:
        sys.exit(f"expected: the end of the check\nseen:     {traceback.format_exc()}")
