// Signs a person in with any OpenID provider: authorization code with PKCE (RFC 7636), for a page without a secret.
//
// Tokens live in this tab's sessionStorage: a reload keeps them, closing the tab drops them. Whoever can run a script
// in this page can read them, which is why index.html allows none but its own.

const TOKENS = 'login.tokens';
const PENDING = 'login.pending';
/** A token that ends sooner than this is renewed before it is used. */
const MARGIN_MS = 5_000;

export class LoginError extends Error {}

export class Login {
  #config;
  #provider;
  #renewal = null;

  /** `issuer`, `clientId`, `scope`, `resource`, `parameters` as README.md describes them. */
  constructor(config) {
    this.#config = config;
  }

  get #tokens() {
    return JSON.parse(sessionStorage.getItem(TOKENS));
  }

  /** Who is signed in, as the provider named them; null when nobody is. */
  get user() {
    return this.#tokens?.user ?? null;
  }

  /** Takes up what the provider sent back, if this page was loaded by its redirect. */
  async finish() {
    const answer = new URLSearchParams(location.search);
    if (!answer.has('state') || !(answer.has('code') || answer.has('error'))) {
      return;
    }
    history.replaceState(null, '', location.pathname); // a code in the address bar is copied and reloaded
    const pending = JSON.parse(sessionStorage.getItem(PENDING));
    sessionStorage.removeItem(PENDING);
    if (!pending || pending.state !== answer.get('state')) {
      throw new LoginError('This sign-in was not begun in this tab. Sign in again.');
    }
    if (answer.has('error')) {
      throw new LoginError(`The provider refused: ${answer.get('error_description') ?? answer.get('error')}`);
    }
    const provider = await this.#discover();
    const from = answer.get('iss');
    if (from ? from !== provider.issuer : provider.authorization_response_iss_parameter_supported) {
      throw new LoginError(`The sign-in came back from ${from ?? 'nobody'} instead of ${provider.issuer}.`);
    }
    await this.#ask({
      grant_type: 'authorization_code',
      code: answer.get('code'),
      redirect_uri: here(),
      code_verifier: pending.verifier,
    }, pending.nonce);
  }

  /** Leaves for the provider; its redirect loads this page again. */
  async signIn() {
    const provider = await this.#discover();
    const [state, nonce, verifier] = [random(), random(), random()];
    sessionStorage.setItem(PENDING, JSON.stringify({ state, nonce, verifier }));
    const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier));
    leave(provider.authorization_endpoint, {
      response_type: 'code',
      client_id: this.#config.clientId,
      redirect_uri: here(),
      scope: this.#config.scope,
      state,
      nonce,
      code_challenge: base64url(new Uint8Array(digest)),
      code_challenge_method: 'S256',
      ...this.#audience(),
      ...this.#config.parameters,
    });
  }

  /** An access token that is good for now, renewed if need be; null when the person must sign in again. */
  async token() {
    const tokens = this.#tokens;
    if (tokens && Date.now() < tokens.expires - MARGIN_MS) {
      return tokens.access;
    }
    return this.renew();
  }

  /** A new access token for the refresh token, if there is one and the provider still takes it; else null. */
  async renew() {
    // A refresh token is often good for one use only, so calls that come together share it.
    this.#renewal ??= this.#renewOnce().finally(() => { this.#renewal = null; });
    return this.#renewal;
  }

  async #renewOnce() {
    const tokens = this.#tokens;
    if (!tokens?.refresh) {
      return null;
    }
    try {
      await this.#ask({ grant_type: 'refresh_token', refresh_token: tokens.refresh });
    } catch (error) {
      if (!(error instanceof LoginError)) {
        throw error; // not a refusal: the provider was not reached
      }
      sessionStorage.setItem(TOKENS, JSON.stringify({ ...tokens, refresh: null }));
      return null;
    }
    return this.#tokens.access;
  }

  /** Forgets the tokens and, where the provider can, ends its session too. */
  async signOut() {
    const hint = this.#tokens?.id;
    sessionStorage.removeItem(TOKENS);
    const provider = await this.#discover();
    if (provider.end_session_endpoint) {
      leave(provider.end_session_endpoint, {
        client_id: this.#config.clientId,
        post_logout_redirect_uri: here(),
        ...(hint && { id_token_hint: hint }),
      });
    }
  }

  /** RFC 8707: whom the token is for. Providers that do not know it ignore it. */
  #audience() {
    return this.#config.resource ? { resource: this.#config.resource } : {};
  }

  async #discover() {
    if (!this.#provider) {
      const issuer = this.#config.issuer.replace(/\/$/, '');
      const address = `${issuer}/.well-known/openid-configuration`;
      const reply = await fetch(address).catch((cause) => {
        throw new Error(`The provider at ${address} cannot be reached.`, { cause });
      });
      if (!reply.ok) {
        throw new Error(`The provider answered ${reply.status} to ${address}.`);
      }
      const found = await reply.json();
      if (found.issuer?.replace(/\/$/, '') !== issuer) {
        throw new Error(`${address} speaks for ${found.issuer}; make that the issuer in config.json.`);
      }
      this.#provider = found;
    }
    return this.#provider;
  }

  async #ask(question, nonce) {
    const provider = await this.#discover();
    const body = new URLSearchParams({ ...question, ...this.#audience(), client_id: this.#config.clientId });
    const reply = await fetch(provider.token_endpoint, { method: 'POST', body }).catch((cause) => {
      throw new Error(`The provider at ${provider.issuer} cannot be reached.`, { cause });
    });
    const answer = await reply.json().catch(() => ({}));
    if (!reply.ok) {
      throw new LoginError(`The provider gave no token: ${answer.error_description ?? answer.error ?? reply.status}`);
    }
    const before = this.#tokens;
    const claims = answer.id_token ? this.#claims(answer.id_token, nonce) : null;
    sessionStorage.setItem(TOKENS, JSON.stringify({
      access: answer.access_token,
      refresh: answer.refresh_token ?? (nonce ? null : before?.refresh ?? null),
      expires: Date.now() + (answer.expires_in ?? 300) * 1000,
      id: answer.id_token ?? before?.id ?? null,
      user: claims
        ? { id: claims.sub, name: claims.name ?? claims.preferred_username ?? claims.email ?? claims.sub }
        : before?.user ?? { id: 'somebody', name: 'somebody' },
    }));
  }

  /** What an ID token says. It came from the provider itself, so its signature need not be checked (Core, 3.1.3.7). */
  #claims(token, nonce) {
    const claims = JSON.parse(new TextDecoder().decode(fromBase64url(token.split('.')[1])));
    if (claims.iss !== this.#provider.issuer || ![claims.aud].flat().includes(this.#config.clientId)) {
      throw new LoginError('The provider sent an ID token that is for somebody else.');
    }
    if (nonce && claims.nonce !== nonce) {
      throw new LoginError('The provider sent the ID token of another sign-in.');
    }
    return claims;
  }
}

/** This page as the provider must know it, among the client's redirect URIs. */
function here() {
  return location.origin + location.pathname;
}

function leave(address, parameters) {
  const url = new URL(address);
  for (const [name, value] of Object.entries(parameters)) {
    url.searchParams.set(name, value);
  }
  location.assign(url);
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
}

function fromBase64url(text) {
  return Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (letter) => letter.charCodeAt(0));
}
