// A client of Ieum, written from the pages in docs/protocol alone. Node 20: `node --experimental-websocket`.
//
//   const client = new Client('store.json', ['http://127.0.0.1:8431']);
//   await client.http.register({ handle, name, password, device });
//   client.start();
//   await client.write({ send: { room, text } });      // on disk now; what became of it is the event `outcome`
//
// Events: `change` (something of the copy, the outbox or the connection changed), `outcome` ({ id, ok } or { id, problem }), `refused` (why
// the outbox has to wait), `devices`, `profile`, `stopped` (the problem after which this device does not connect again).
import { EventEmitter } from 'node:events';
import { Endpoints, backoff, sleep } from './endpoints.mjs';
import { Http, randomId } from './http.mjs';
import { Rooms } from './rooms.mjs';
import { Store } from './store.mjs';

const UNDER_WAY = 64;
const FRAME_BYTES = 262_144;
const FINAL = ['replaced', 'logged_out', 'secret_wrong'];
const NOTHING = '{"read":{"room":0,"seq":0}}';
const KEEP_DONE = { ms: 5 * 60_000, count: 1_000 };
const LOOK_MS = 100;
const PING_MS = 1_000;
const SILENCE_MS = 1_500;
const NO_ANSWER_MS = 10_000;
const CONNECT_MS = { first: 2_000, cap: 10_000 };
const SETTLED_MS = 5_000;
const REFUSED_CAP_MS = 5_000;

export class Client extends EventEmitter {
  #store;
  #endpoints;
  #session;
  #unwritten = new Set(); // commands that are not on disk yet
  #careful = false; // one at a time: a command among those under way cannot be read by the server
  #stopped = false;

  constructor(file, endpoints) {
    super();
    this.#store = new Store(file);
    this.#endpoints = new Endpoints(endpoints);
    this.http = new Http(this.#store, this.#endpoints);
    this.rooms = new Rooms(this.#store.state);
  }

  get state() {
    return this.#store.state;
  }

  // The session's endpoint, once it has caught up.
  get connectedTo() {
    return this.#session?.stage === 'live' ? this.#session.endpoint : undefined;
  }

  // Queues a change. Resolves with its id when it is on disk; from then on it takes effect once, whatever breaks.
  async write(change) {
    // A lone surrogate is not JSON to the server.
    const text = JSON.stringify(change, (_, value) => (typeof value === 'string' ? value.toWellFormed() : value));
    const command = { n: this.state.last + 1, id: randomId(), change: text };
    if (Buffer.byteLength(frameOf(command)) > FRAME_BYTES) throw new RangeError('the command is too large for a frame');
    this.state.last = command.n;
    this.state.outbox.push(command);
    this.#unwritten.add(command);
    await this.#store.save();
    this.#unwritten.delete(command);
    this.#pump();
    return command.id;
  }

  async fill(room) {
    const path = `/v1/rooms/${room}`;
    const page = async (before) => (await this.http.get(`${path}/messages?before=${before}&limit=200`)).messages;
    await this.rooms.fill(room, page, async () => (await this.http.get(`${path}/receipts`)).receipts);
    this.#changed();
  }

  // Connects, and again after each break, until `stop` or until the server says that there is no coming back.
  async start() {
    let attempts = 0;
    while (!this.#stopped) {
      const round = Math.floor(attempts / this.#endpoints.all().length);
      const endpoint = this.#endpoints.next();
      const began = performance.now();
      const bye = await this.#connect(endpoint, Math.min(CONNECT_MS.first * 2 ** round, CONNECT_MS.cap));
      this.#store.saveLater();
      this.emit('change');
      if (FINAL.includes(bye?.code)) this.#stopped = true;
      if (this.#stopped && bye) {
        this.#loggedOutItself(bye);
        this.emit('stopped', bye);
        return;
      }
      if (!['slow_reader', 'silent'].includes(bye?.code) || bye.endpoints) this.#endpoints.failed(endpoint);
      this.#endpoints.prefer(bye?.endpoints ?? []);
      attempts = performance.now() - began >= SETTLED_MS ? 0 : attempts + 1;
      await sleep(backoff(Math.floor(attempts / this.#endpoints.all().length), bye?.retry_after_ms));
    }
  }

  // Resolves when all that it holds is on disk.
  async stop() {
    this.#stopped = true;
    this.#session?.end();
    await this.#store.save();
  }

  // One session, from the handshake to its end; resolves with the problem of its `bye`, if there was one.
  #connect(endpoint, patience) {
    return new Promise((resolve) => {
      const socket = new WebSocket(`${endpoint.replace(/^http/, 'ws')}/v1/socket`, 'ieum.v1');
      const now = performance.now();
      const session = { endpoint, socket, patience, stage: 'connecting', since: now, looked: now, heard: now, answered: now };
      Object.assign(session, { underWay: new Set(), top: 0, refusals: 0 });
      session.end = (problem) => {
        clearInterval(session.looking);
        clearTimeout(session.resuming);
        socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
        socket.close();
        if (this.#session === session) this.#session = undefined;
        resolve(problem);
      };
      session.looking = setInterval(() => this.#look(session), LOOK_MS);
      socket.onopen = () => this.#hello(session);
      socket.onmessage = ({ data }) => this.#frame(session, JSON.parse(data));
      socket.onclose = () => session.end();
      socket.onerror = () => session.end();
      this.#session = session;
    });
  }

  #hello(session) {
    const { account, cursor, seen } = this.state;
    session.stage = 'hello';
    session.since = performance.now();
    const { device, secret } = account;
    session.socket.send(JSON.stringify({ hello: { device, secret, cursor, seen, client: 'stranger/1' } }));
  }

  // Is anybody there? (delivery.md)
  #look(session) {
    const now = performance.now();
    // When this process itself was held up, what came meanwhile is not read yet: silence says nothing.
    if (now - session.looked > SILENCE_MS / 2) session.asked = undefined;
    session.looked = now;
    const isSilent = {
      connecting: now - session.since > session.patience,
      hello: now - session.since > session.patience,
      'catching up': now - session.heard > NO_ANSWER_MS, // it does not answer pings meanwhile
      live: session.asked !== undefined && now - session.asked > SILENCE_MS,
    }[session.stage];
    const isStuck = session.underWay.size > 0 && now - session.answered > NO_ANSWER_MS;
    if (isSilent || isStuck) session.end();
    else if (session.stage === 'live' && now - session.since > PING_MS) {
      session.since = now;
      session.asked ??= now;
      session.socket.send('{"ping":{"id":1}}');
    }
  }

  #frame(session, frame) {
    const [[kind, body]] = Object.entries(frame);
    const { state } = this;
    session.asked = undefined;
    session.heard = performance.now();
    this.#store.see(body.pos);
    if (kind === 'welcome') this.#welcome(session, body);
    else if (kind === 'catch_up') this.rooms.catchUp(body);
    else if (kind === 'caught_up') session.stage = 'live';
    else if (kind === 'events') for (const event of body.list) this.#event(event);
    else if (kind === 'ack') this.#ack(session, body);
    else if (kind === 'refused') this.#refused(session, body);
    else if (kind === 'bye') this.#bye(session, body);
    // Only these three say that nothing before `pos` is still to come.
    if (['caught_up', 'events', 'pong'].includes(kind)) state.cursor = body.pos;
    this.#changed();
  }

  #changed() {
    this.#store.saveLater();
    this.emit('change');
  }

  #event(event) {
    this.rooms.apply(event);
    if (event.devices) this.emit('devices');
    if (event.profile) this.emit('profile', event.profile);
    // An archive's entries, and how many are unread when some are missing, are read over HTTP when somebody looks.
  }

  // Brings the numbers into agreement with the cell's, on disk, and sends the outbox (delivery.md, "When `welcome` comes").
  async #welcome(session, { n, endpoints, resync }) {
    const { state } = this;
    session.stage = 'catching up';
    if (endpoints) this.#endpoints.welcome(endpoints);
    if (resync) {
      this.rooms.clear();
      state.cursor = undefined;
    }
    // Every position that came with an answer went into `seen`, so a lower number means that the cell lost some of what it answered.
    if (n < state.answered) {
      state.outbox = [...state.done.filter((command) => command.n > n), ...state.outbox];
      state.done = state.done.filter((command) => command.n <= n);
      state.answered = n;
    }
    // Those up to `n` may have been sent under their number: that and the id tell the cell what they are.
    const doubtful = state.outbox.filter((command) => command.n <= n);
    const others = state.outbox.filter((command) => command.n > n);
    others.forEach((command, at) => Object.assign(command, { n: n + 1 + at }));
    state.outbox = [...doubtful, ...others];
    state.last = n + others.length;
    await this.#store.save();
    session.welcomed = true;
    session.answered = performance.now();
    this.#pump();
  }

  // Sends what may be sent: in ascending order, 64 under way, nothing behind a refusal.
  #pump() {
    const session = this.#session;
    if (!session?.welcomed || session.refused) return;
    const most = this.#careful ? 1 : UNDER_WAY;
    for (const command of this.state.outbox) {
      if (session.underWay.size >= most || this.#unwritten.has(command)) return;
      if (command.n <= session.top) continue;
      if (session.underWay.size === 0) session.answered = performance.now();
      session.underWay.add(command.n);
      session.top = command.n;
      session.socket.send(frameOf(command));
    }
  }

  #ack(session, { n, ok, error }) {
    const { state } = this;
    this.#answered(session, n);
    if (!session.refused) session.refusals = 0;
    state.answered = Math.max(state.answered, n);
    const at = state.outbox.findIndex((command) => command.n === n);
    if (at >= 0) {
      const [command] = state.outbox.splice(at, 1);
      if (error?.code === 'number_reused') {
        state.last += 1;
        state.outbox.push({ ...command, n: state.last });
      } else if (ok) {
        const now = Date.now();
        state.done.push({ ...command, at: now });
        state.done = state.done.filter((done) => now - done.at < KEEP_DONE.ms).slice(-KEEP_DONE.count);
        this.emit('outcome', { id: command.id, ok });
      } else if (!command.isGivenUp) {
        this.emit('outcome', { id: command.id, problem: error });
      }
    }
    this.#afterAnswer(session);
  }

  // Everything behind the first refused number is refused too: wait for all answers, then send again from there.
  #refused(session, { n, error }) {
    this.#answered(session, n);
    this.emit('refused', error);
    if (!session.refused || n < session.refused.n) session.refused = { n, error };
    this.#afterAnswer(session);
  }

  #answered(session, n) {
    session.underWay.delete(n);
    session.answered = performance.now();
  }

  #afterAnswer(session) {
    if (!session.refused) this.#pump();
    else if (session.underWay.size === 0) this.#resume(session);
  }

  #resume(session) {
    const { n, error } = session.refused;
    const isFinal = error.retry_after_ms === undefined && error.status < 500;
    if (error.code === 'device_unknown') return; // `bye` follows
    if (error.code === 'out_of_order' && session.lowest === n) {
      session.end(); // Our count is wrong; the next `welcome` says what is right.
      return;
    }
    session.lowest = error.code === 'out_of_order' ? n : undefined;
    if (isFinal) this.#giveUp(this.state.outbox.find((command) => command.n === n), error);
    const wait = Math.min((error.retry_after_ms ?? 500) * 2 ** session.refusals, REFUSED_CAP_MS);
    session.refusals += 1;
    session.resuming = setTimeout(async () => {
      await this.#store.save();
      session.top = n - 1;
      session.refused = undefined;
      this.#pump();
    }, wait * (1 + Math.random()));
  }

  #bye(session, problem) {
    if (['bad_frame', 'too_large'].includes(problem.code)) {
      const suspects = this.state.outbox.filter((command) => session.underWay.has(command.n));
      this.#careful = suspects.length > 1;
      if (suspects.length === 1) this.#giveUp(suspects[0], problem);
      if (suspects.length === 0) this.#stopped = true; // hello itself, or a ping: a bug that connecting again does not mend
    }
    session.end(problem);
  }

  // No server will ever read it. Its number is used up by a change that does nothing, under a new id.
  #giveUp(command, problem) {
    this.emit('outcome', { id: command.id, problem });
    Object.assign(command, { id: randomId(), change: NOTHING, isGivenUp: true });
  }

  // A device that logs itself out gets its answer as `bye`.
  #loggedOutItself(bye) {
    if (bye.code !== 'logged_out') return;
    const own = JSON.stringify({ log_out: { device: this.state.account.device } });
    const command = this.state.outbox.find(({ change }) => change === own);
    if (command) this.emit('outcome', { id: command.id, ok: {} });
  }
}

const frameOf = ({ n, id, change }) => `{"cmd":{"n":${n},"id":"${id}","do":${change}}}`;
