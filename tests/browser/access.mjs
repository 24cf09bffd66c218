// Checks in Chromium, and with Node's ws, what a page may do with a server that wants a token for receiving: one of
// the server's own, and one from elsewhere, which has the token as well.
//
// Usage: node access.mjs http://127.0.0.1:PORT TOKEN
// CHROMIUM names the browser, else /usr/bin/chromium. Exits 0, or 1 with what was expected and what was seen.

import { createServer } from 'node:http';
import { chromium } from 'playwright-core';
import { WebSocket as NodeSocket } from 'ws';

const TIME_LIMIT_MS = 45_000;
const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'];

function expect(what, expected, seen) {
  const [left, right] = [expected, seen].map((value) => JSON.stringify(value));
  if (left !== right) throw new Error(`${what}\n  expected: ${left}\n  seen:     ${right}`);
}

/** Joins the market; gives what the socket says of itself once it is open, or how it was refused. Runs in a page. */
function join([url, protocols]) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => {
      resolve(`open ${socket.protocol}`);
      socket.close();
    };
    socket.onclose = ({ code }) => resolve(`closed ${code}`);
  });
}

/** The same with Node's ws, which gives up when it has offered subprotocols and none is selected. */
function joinInNode(url, protocols) {
  return new Promise((resolve) => {
    const socket = new NodeSocket(url, protocols);
    socket.on('open', () => {
      resolve(`open ${socket.protocol}`);
      socket.terminate();
    });
    socket.on('error', (error) => resolve(error.message));
  });
}

/** Publishes as a page can without asking first, and reads what may be read. Runs in a page. */
async function trespass([base, token]) {
  const publish = (mode) => fetch(`${base}/publish/market`, { method: 'POST', mode, body: 'forged' });
  const outcome = (promise) => promise.then((response) => `${response.type} ${response.status}`, () => 'failed');
  return Promise.all([
    outcome(publish('cors')),
    outcome(publish('no-cors')),
    outcome(fetch(`${base}/snapshot/market?token=${token}`)),
    outcome(fetch(`${base}/stats?token=${token}`)),
  ]);
}

/** A page from elsewhere: another port is another origin. */
async function elsewhere() {
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<title>elsewhere'));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

async function publishedOf(base) {
  const metrics = await (await fetch(`${base}/metrics`)).text();
  return metrics.match(/^tickcast_messages_published_total\{channel="market"\} (\d+)$/m)?.[1];
}

async function run(browser, base, token) {
  const socketUrl = `${base.replace(/^http/, 'ws')}/ws/market`;
  const answer = await fetch(`${base}/publish/market`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: 'hello',
  });
  expect('publishing', 200, answer.status);

  const own = await browser.newPage();
  await own.goto(`${base}/healthz`);
  for (const [what, expected, ...socket] of [
    ['no token', 'closed 1006', socketUrl, []],
    ['a token in the URL', 'open ', `${socketUrl}?token=${token}`, []],
    ['a token as a subprotocol beside another', 'open tickcast', socketUrl, ['tickcast', `bearer.${token}`]],
    ['a token as the only subprotocol', `open bearer.${token}`, socketUrl, [`bearer.${token}`]],
    ['a wrong token as a subprotocol', 'closed 1006', socketUrl, ['tickcast', 'bearer.wrong']],
  ]) {
    expect(`own page, ${what}`, expected, await own.evaluate(join, socket));
    const inNode = expected.startsWith('open') ? expected : 'Unexpected server response: 401';
    expect(`Node's ws, ${what}`, inNode, await joinInNode(...socket));
  }

  const other = await elsewhere();
  const foreign = await browser.newPage();
  await foreign.goto(other.url);
  for (const socket of [[`${socketUrl}?token=${token}`, []], [socketUrl, ['tickcast', `bearer.${token}`]]]) {
    expect('page from elsewhere, stream', 'closed 1006', await foreign.evaluate(join, socket));
  }
  // The server answers 403, and the browser does not even show that.
  const seen = await foreign.evaluate(trespass, [base, token]);
  expect('page from elsewhere, requests', ['failed', 'opaque 0', 'failed', 'failed'], seen);
  expect('messages published', '1', await publishedOf(base));
  other.close();
}

const [base, token] = process.argv.slice(2);
if (!token) {
  console.error('usage: node access.mjs http://127.0.0.1:PORT TOKEN');
  process.exit(2);
}
setTimeout(() => {
  console.error(`expected the end within ${TIME_LIMIT_MS / 1000} s; seen: still waiting`);
  process.exit(1);
}, TIME_LIMIT_MS).unref();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ARGUMENTS });
try {
  await run(browser, base.replace(/\/$/, ''), token);
  console.log('access: ok');
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
}
