// Talks to a running server with the `ws` package and checks what such a client sees.
//
// Usage: node client.mjs http://127.0.0.1:PORT
// The server replays or simulates a market, with a broadcast interval of at most a second.

import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';

// One installation serves all tests that run in Node.
const { WebSocket } = createRequire(new URL('../browser/package.json', import.meta.url))('ws');

const TIME_LIMIT_MS = 45_000;
const STEP_LIMIT_MS = 10_000;
const FIRST_FRAME_MS = 100;
// On a busy machine one connection may have to wait for a processor; most do not.
const FIRST_FRAME_SAMPLES = 5;
const FOLLOWED = 20;
const CLIENTS = 5;
const LARGE_BYTES = 2_500_000;

class Mismatch extends Error {
  constructor(what, expected, seen) {
    super(`${what}\n  expected: ${expected}\n  seen:     ${seen}`);
  }
}

function expect(what, expected, seen, isMet) {
  if (!isMet) throw new Mismatch(what, expected, seen);
}

function expectEqual(what, expected, seen) {
  expect(what, JSON.stringify(expected), JSON.stringify(seen), expected === seen);
}

function expectSameBytes(what, expected, seen) {
  const at = expected.findIndex((byte, n) => byte !== seen[n]);
  const outline = (bytes) => `${bytes.length} bytes, ${JSON.stringify(bytes.subarray(Math.max(at, 0)).toString('latin1', 0, 40))} at ${at}`;
  expect(what, outline(expected), outline(seen), expected.equals(seen));
}

/** What the promise gives, unless it takes too long. */
async function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    const mismatch = new Mismatch(what, `within ${STEP_LIMIT_MS / 1000} s`, 'still waiting');
    timer = setTimeout(() => reject(mismatch), STEP_LIMIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** One WebSocket connection whose messages are taken one by one. */
class Client {
  #socket;
  #messages = [];
  #wake = () => {};
  #end = null;

  constructor(base, channel, options = {}) {
    this.started = performance.now();
    this.#socket = new WebSocket(`${base.replace(/^http/, 'ws')}/ws/${channel}`, options);
    this.#socket.on('message', (data, isBinary) => this.#arrive({ data, isBinary, at: performance.now() }));
    this.#socket.on('error', (error) => this.#finish(`error: ${error.message}`));
    this.opened = new Promise((resolve) => this.#socket.once('open', resolve));
    this.closed = new Promise((resolve) => {
      this.#socket.once('close', (code, reason) => {
        this.#finish(`close ${code} ${reason}`);
        resolve(code);
      });
    });
  }

  #arrive(message) {
    this.#messages.push(message);
    this.#wake();
  }

  #finish(why) {
    this.#end ??= why;
    this.#wake();
  }

  get extensions() {
    return this.#socket.extensions;
  }

  /** The next message. */
  async next(what) {
    const deadline = performance.now() + STEP_LIMIT_MS;
    while (this.#messages.length === 0) {
      const left = deadline - performance.now();
      expect(what, 'a message', this.#end, this.#end === null);
      expect(what, 'a message', `none in ${STEP_LIMIT_MS / 1000} s`, left > 0);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this.#messages.shift();
  }

  /** Sends a Ping; gives the payload of the Pong. */
  async ping(payload) {
    const pong = new Promise((resolve) => this.#socket.once('pong', resolve));
    this.#socket.ping(payload);
    return within(`Pong after Ping of ${payload.length} bytes`, pong);
  }

  /** Sends a Close; gives the code of the answer, 1006 if there was none. */
  async close(...codeAndReason) {
    this.#socket.close(...codeAndReason);
    return within(`end after Close ${codeAndReason}`, this.closed);
  }

  drop() {
    this.#socket.terminate();
  }
}

// HTTP

async function request(url, options = {}) {
  const response = await fetch(url, { ...options, signal: AbortSignal.timeout(STEP_LIMIT_MS) }).catch((error) => {
    throw new Mismatch(`${options.method ?? 'GET'} ${url}`, 'an answer', error.cause?.message ?? error.message);
  });
  return { status: response.status, body: Buffer.from(await response.arrayBuffer()) };
}

async function get(url) {
  const { status, body } = await request(url);
  expect(`GET ${url}`, 'status 200', `status ${status}: ${body}`, status === 200);
  return body;
}

async function publish(base, channel, body, type, subscribers) {
  const { status, body: answer } = await request(`${base}/publish/${channel}`, {
    method: 'POST',
    headers: { 'content-type': type },
    body,
  });
  expect(`POST of ${type}`, 'status 200', `status ${status}: ${answer}`, status === 200);
  const { published, subscribers: seen } = JSON.parse(answer);
  expectEqual(`answer to a POST of ${type}`, `1 to ${subscribers}`, `${published} to ${seen}`);
}

/** A channel that no earlier run against the same server has used. */
function channelName(purpose) {
  return `interop-${purpose}-${randomBytes(8).toString('hex')}`;
}

// The market

async function untilReady(base) {
  const deadline = performance.now() + STEP_LIMIT_MS;
  for (;;) {
    const { status, body } = await request(`${base}/snapshot/market`);
    if (status === 200) return;
    const expected = `status 200 within ${STEP_LIMIT_MS / 1000} s`;
    expect('GET /snapshot/market', expected, `status ${status}: ${body}`, performance.now() < deadline);
    await new Promise((done) => setTimeout(done, 50));
  }
}

function readSnapshot({ data, isBinary }) {
  expectEqual('binary frame of market', false, isBinary);
  let snapshot;
  try {
    snapshot = JSON.parse(data);
  } catch (error) {
    throw new Mismatch('frame of market', 'JSON', `${error.message}: ${data.subarray(0, 200)}`);
  }
  expectEqual('type of a frame of market', 'snapshot', snapshot.type);
  // An integer that JavaScript holds exactly, or two clients would not agree on it.
  for (const key of ['seq', 'ts']) expect(`${key} of a snapshot`, 'a safe integer', snapshot[key], Number.isSafeInteger(snapshot[key]));
  const names = Object.keys(snapshot.symbols ?? {});
  expect('symbols of a snapshot', 'sorted, at least one', names, names.length > 0 && `${names}` === `${names.toSorted()}`);
  return snapshot;
}

function median(values) {
  return values.toSorted((one, other) => one - other)[values.length >> 1];
}

/** Who connects gets the last snapshot at once. Returns the typical delay. */
async function checkFirstFrames(base) {
  const delays = [];
  for (let n = 0; n < FIRST_FRAME_SAMPLES; n += 1) {
    const before = JSON.parse(await get(`${base}/snapshot/market`)).seq;
    const client = new Client(base, 'market');
    const first = await client.next('first frame of market');
    delays.push(first.at - client.started);
    const after = JSON.parse(await get(`${base}/snapshot/market`)).seq;
    const { seq } = readSnapshot(first);
    expect('seq of the first frame', `the last published, ${before} to ${after}`, seq, before <= seq && seq <= after);
    client.drop();
  }
  const typical = median(delays);
  expect('first frame of market', `within ${FIRST_FRAME_MS} ms of connecting, mostly`, `${delays} ms`, typical <= FIRST_FRAME_MS);
  return typical;
}

/** Nothing is missing between the first frame and the live ones, whether or not the client offers compression. */
async function checkOrder(base, perMessageDeflate) {
  const client = new Client(base, 'market', { perMessageDeflate });
  let last = readSnapshot(await client.next('first frame of market'));
  for (let n = 0; n < FOLLOWED; n += 1) {
    const snapshot = readSnapshot(await client.next('next frame of market'));
    expectEqual('seq', last.seq + 1, snapshot.seq);
    expect('ts', `at least ${last.ts}`, snapshot.ts, snapshot.ts >= last.ts);
    last = snapshot;
  }
  if (!perMessageDeflate) expectEqual('extensions, none being offered', '', client.extensions);
  expectEqual('answer to Close 1000', 1000, await client.close(1000));
  return client.extensions;
}

// Control frames

async function checkPings(base) {
  const client = new Client(base, 'market');
  await within('opening', client.opened);
  for (const payload of [Buffer.alloc(0), Buffer.from('tick'), randomBytes(125)]) {
    expectSameBytes('payload of a Pong', payload, await client.ping(payload));
  }
  client.drop();
}

async function checkCloses(base) {
  // In JavaScript 1005 stands for a Close without a code.
  for (const [code, ...sent] of [[1005], [1000, 1000], [1001, 1001, 'going'], [3000, 3000], [4001, 4001, 'näher'], [4999, 4999]]) {
    const client = new Client(base, 'market');
    await client.next('first frame of market');
    expectEqual(`answer to Close ${sent}`, code, await client.close(...sent));
  }
}

// Publishing over HTTP

async function expectNext(clients, body, isBinary, what) {
  for (const client of clients) {
    const message = await client.next(what);
    expectEqual(`${what}: binary frame`, isBinary, message.isBinary);
    expectSameBytes(what, Buffer.from(body), message.data);
  }
}

async function checkPublishing(base) {
  const channel = channelName('kinds');
  // Spacing, escapes and digits that a server which parsed and printed would not keep.
  const first = '{ "b": 1.10, "a":[1e2,\t-0.0], "text": "\\u00e9 é" }';
  await publish(base, channel, first, 'application/json', 0);
  const clients = [];
  for (let n = 0; n < CLIENTS; n += 1) {
    // Some offer compression, some do not: all get the same.
    clients.push(new Client(base, channel, { perMessageDeflate: n % 2 === 0 }));
    await expectNext(clients.slice(-1), first, false, 'first message');
  }
  const large = JSON.stringify(Array.from({ length: LARGE_BYTES / 50 }, (_, row) => ({ row, id: randomBytes(20).toString('hex') })));
  for (const [body, type, isBinary] of [
    ['Grüße, 市場 🦀\nsecond line\n', 'text/plain', false],
    [randomBytes(70_000), 'application/octet-stream', true],
    [large, 'application/json', false],
    ['', 'text/plain', false],
    [Buffer.alloc(125), 'application/octet-stream', true],
    [Buffer.alloc(126), 'application/octet-stream', true],
    [Buffer.alloc(65_535), 'application/octet-stream', true],
    [Buffer.alloc(65_536), 'application/octet-stream', true],
  ]) {
    await publish(base, channel, body, type, CLIENTS);
    await expectNext(clients, body, isBinary, `${type} of ${body.length}`);
    expectSameBytes(`GET /snapshot of ${type}`, Buffer.from(body), await get(`${base}/snapshot/${channel}`));
  }
  clients.forEach((client) => client.drop());
  return large.length;
}

// Refusals

function statusOf(base, channel) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${base.replace(/^http/, 'ws')}/ws/${channel}`);
    socket.on('unexpected-response', (attempt, response) => {
      attempt.destroy();
      resolve(response.statusCode);
    });
    socket.on('open', () => {
      socket.terminate();
      resolve(101);
    });
    socket.on('error', reject);
  });
}

async function check(base) {
  await untilReady(base);
  const typical = await checkFirstFrames(base);
  await checkOrder(base, false);
  const extensions = await checkOrder(base, true);
  await checkPings(base);
  await checkCloses(base);
  const size = await checkPublishing(base);
  expectEqual('status for an unknown channel', 404, await within('refusal', statusOf(base, channelName('unknown'))));
  return (
    `client.mjs: ok, first frame in ${typical.toFixed(1)} ms, ${FOLLOWED} snapshots in order, Pings and Closes answered, ` +
    `text, binary, ${size} bytes intact at ${CLIENTS} clients, compression offered and ${extensions || 'not taken'}, 404`
  );
}

function fail(error) {
  console.error(error instanceof Mismatch ? error.message : error);
  process.exit(1);
}

const [base, ...rest] = process.argv.slice(2);
if (!base || rest.length > 0) {
  console.error('usage: node client.mjs http://127.0.0.1:PORT');
  process.exit(2);
}
setTimeout(() => fail(new Mismatch('time limit', `the end within ${TIME_LIMIT_MS / 1000} s`, 'still waiting')), TIME_LIMIT_MS).unref();
try {
  console.log(await check(base.replace(/\/$/, '')));
  process.exit(0);
} catch (error) {
  fail(error);
}
