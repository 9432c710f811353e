// Which server to ask, and how long to wait before the next attempt (delivery.md, "Trying again" and "Endpoints").
const FIRST_MS = 200;
const CAP_MS = 5_000;
const BELIEVED_MS = 60_000;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// What the server asked for and a random part of it, and never less than the backoff of this round.
export function backoff(round, retryAfter) {
  const asked = Math.min(retryAfter ?? 0, BELIEVED_MS);
  return Math.max(asked * (1 + Math.random()), Math.random() * Math.min(CAP_MS, FIRST_MS * 2 ** round));
}

export class Endpoints {
  #builtIn;
  #welcomed = [];
  #failures = new Map();

  constructor(builtIn) {
    this.#builtIn = builtIn.map(normal);
  }

  all() {
    return [...new Set([...this.#builtIn, ...this.#welcomed])];
  }

  // The one whose last failure lies furthest back: so the one that works is kept.
  next() {
    const failure = (endpoint) => this.#failures.get(endpoint) ?? 0;
    return this.all().reduce((best, endpoint) => (failure(endpoint) < failure(best) ? endpoint : best));
  }

  failed(endpoint) {
    this.#failures.set(endpoint, performance.now());
  }

  // What `welcome` names replaces what earlier ones named.
  welcome(endpoints) {
    this.#welcomed = this.#safe(endpoints);
  }

  // What a problem names is tried first.
  prefer(endpoints) {
    for (const endpoint of this.#safe(endpoints)) {
      if (!this.all().includes(endpoint)) this.#welcomed.push(endpoint);
      this.#failures.delete(endpoint);
    }
  }

  // Who was set up with TLS never leaves it.
  #safe(endpoints) {
    const known = endpoints.filter((endpoint) => URL.canParse(endpoint)).map(normal);
    return this.#builtIn.every(isSecure) ? known.filter(isSecure) : known;
  }
}

const normal = (endpoint) => new URL(endpoint.replace(/^ws/, 'http')).origin;
const isSecure = (endpoint) => endpoint.startsWith('https:');
