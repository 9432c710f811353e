// HTTP: registering and signing in, tokens, and what is not in the stream (signing-in.md, http.md).
import { randomBytes } from 'node:crypto';
import { backoff, sleep } from './endpoints.mjs';

const ATTEMPTS = 12;
const ANSWER_MS = 10_000;

export class Problem extends Error {
  constructor(problem) {
    super(`${problem.code}: ${problem.detail ?? problem.title}`);
    this.problem = problem;
    this.code = problem.code;
  }
}

export const randomId = () => randomBytes(16).toString('hex');

export class Http {
  #store;
  #endpoints;
  #token;

  constructor(store, endpoints) {
    this.#store = store;
    this.#endpoints = endpoints;
  }

  register({ handle, name, password, device, invitation }) {
    return this.#enter('/v1/accounts', { handle, name, device, invitation }, password);
  }

  signIn({ handle, password, device }) {
    return this.#enter('/v1/devices', { handle, device }, password);
  }

  // The key and the secret are on disk before the request leaves: when its answer is lost, even with this process, calling it again sends
  // the same request and gets the same device. After a rejection the person corrects something, and that is a new attempt.
  async #enter(path, asked, password) {
    const { state } = this.#store;
    const what = JSON.stringify([path, asked]);
    if (state.attempt?.what !== what) {
      state.attempt = { what, key: randomId(), secret: randomBytes(32).toString('base64url') };
      await this.#store.save();
    }
    const { key, secret } = state.attempt;
    try {
      const body = { ...asked, password, secret };
      const { user, device } = await this.request('POST', path, { body, key, token: false });
      state.account = { user, device, secret };
      state.attempt = undefined;
    } catch (error) {
      if (error.problem?.status < 500 && error.code !== 'rate_limited') state.attempt = undefined;
      throw error;
    } finally {
      await this.#store.save();
    }
    return state.account;
  }

  get(path) {
    return this.request('GET', path);
  }

  // Sends a request until it has an answer that trying again does not change; always the same body with the same key.
  async request(method, path, { body, key, token = true } = {}) {
    let problem;
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const endpoint = this.#endpoints.next();
      const headers = {};
      if (body !== undefined) headers['content-type'] = 'application/json';
      if (key !== undefined) headers['idempotency-key'] = key;
      if (token) headers.authorization = `Bearer ${(this.#token ??= await this.#newToken())}`;
      if (token && this.#store.state.seen) headers['ieum-seen'] = this.#store.state.seen;
      const answer = await exchange(endpoint + path, { method, headers, body: body && JSON.stringify(body) });
      if (answer.problem === undefined) {
        this.#store.see(answer.position);
        return answer.body;
      }
      ({ problem } = answer);
      if (token && ['unauthorized', 'token_expired'].includes(problem.code)) {
        this.#token = undefined;
        continue;
      }
      // `password_changed` is worth another try only with a new key.
      if (problem.retry_after_ms === undefined || problem.code === 'password_changed') break;
      if (problem.status === 503) this.#endpoints.failed(endpoint);
      this.#endpoints.prefer(problem.endpoints ?? []);
      await sleep(backoff(Math.floor(attempt / this.#endpoints.all().length), problem.retry_after_ms));
    }
    throw new Problem(problem);
  }

  async #newToken() {
    const { device, secret } = this.#store.state.account;
    return (await this.request('POST', '/v1/tokens', { body: { device, secret }, token: false })).token;
  }
}

// One request: its body and position, or a problem. No answer at all, and an error of a proxy, are problems too.
async function exchange(url, options) {
  try {
    const answer = await fetch(url, { ...options, redirect: 'error', signal: AbortSignal.timeout(ANSWER_MS) });
    const text = await answer.text();
    const isProblem = answer.headers.get('content-type')?.startsWith('application/problem+json');
    if (isProblem) return { problem: JSON.parse(text) };
    if (answer.ok) {
      return { body: text === '' ? undefined : JSON.parse(text), position: answer.headers.get('ieum-position') ?? undefined };
    }
    const again = answer.status >= 500 || answer.status === 429 ? { retry_after_ms: 500 } : {};
    return { problem: { code: `http_${answer.status}`, title: text, status: answer.status, ...again } };
  } catch (error) {
    return { problem: { code: 'no_answer', title: String(error.cause ?? error), status: 503, retry_after_ms: 0 } };
  }
}
