// The page: who is signed in, what was said, what went wrong.
//
// A conversation is a session id and what was said with it. The agent remembers by the session id; the page keeps what
// was said for itself, so that a reload shows it again. Each user of this browser has a conversation of their own.

import { CallError, invoke, providersOf, stop } from './agent.js';
import { Login, LoginError } from './login.js';

const DRAFT = 'draft';
const $ = (id) => document.getElementById(id);

let config;
let login;
let conversation;
let running = null;

try {
  config = await readConfig();
  login = new Login(config);
  await login.finish();
} catch (error) {
  complain(error);
}
if (login) {
  show();
}

/** config.json, with what it leaves out. */
async function readConfig() {
  const reply = await fetch('config.json', { cache: 'no-store' });
  if (!reply.ok) {
    throw new Error(`There is no config.json beside this page (${reply.status}).`);
  }
  const found = { qualifier: 'DEFAULT', scope: 'openid', ...(await reply.json()) };
  const missing = ['endpoint', 'agentRuntimeArn', 'clientId'].filter((name) => !found[name]);
  if (missing.length > 0) {
    throw new Error(`config.json lacks ${missing.join(', ')}.`);
  }
  // The agent itself says whose tokens it takes.
  found.issuer ??= (await providersOf(found))[0];
  return found;
}

function show() {
  const user = login.user;
  $('welcome').hidden = Boolean(user);
  for (const id of ['user', 'new', 'sign-out', 'conversation', 'say']) {
    $(id).hidden = !user;
  }
  if (!user) {
    return;
  }
  $('user').textContent = `Signed in as ${user.name}`;
  conversation = JSON.parse(localStorage.getItem(storageKey())) ?? begin();
  $('conversation').replaceChildren(...conversation.said.map(entry));
  // What was to be said when the token had expired.
  const draft = sessionStorage.getItem(DRAFT);
  sessionStorage.removeItem(DRAFT);
  if (draft) {
    say(draft);
  }
  $('message').focus();
}

function begin() {
  return { session: crypto.randomUUID(), said: [] };
}

/** Only a courtesy: a session that nobody ends ends by itself. */
async function end({ session, said }) {
  const token = said.length > 0 && (await login.token().catch(() => null));
  if (token) {
    await stop(config, { token, session }).catch(() => {});
  }
}

function storageKey() {
  return `conversation of ${login.user.id} with ${config.agentRuntimeArn}`;
}

function save() {
  if (login?.user && conversation) {
    localStorage.setItem(storageKey(), JSON.stringify(conversation));
  }
}

function entry({ who, text }) {
  const item = document.createElement('div');
  item.className = who;
  for (const [kind, words] of [['who', who === 'user' ? 'You' : 'Agent'], ['text', text]]) {
    const line = document.createElement('p');
    line.className = kind;
    line.textContent = words;
    item.append(line);
  }
  return item;
}

/** Sends a message and shows the answer while it comes. */
async function say(prompt) {
  calm();
  running = new AbortController();
  busy(true);
  try {
    const token = await login.token().catch((error) => {
      $('message').value ||= prompt;
      throw error;
    });
    await (token ? answer(prompt, token) : signInAgain(prompt));
  } catch (error) {
    complain(error);
  } finally {
    running = null;
    busy(false);
  }
}

async function answer(prompt, token) {
  const { session, said } = conversation;
  const asked = { who: 'user', text: prompt };
  const reply = { who: 'agent', text: '' };
  const items = [entry(asked), entry(reply)];
  const [, item] = items;
  item.setAttribute('aria-busy', 'true');
  $('conversation').append(...items);
  item.scrollIntoView({ block: 'end' });
  try {
    for await (const piece of pieces({ token, session, prompt, signal: running.signal })) {
      if (!said.includes(reply)) {
        said.push(asked, reply);
      }
      reply.text += piece;
      item.lastElementChild.textContent = reply.text;
      item.scrollIntoView({ block: 'end' });
    }
  } catch (error) {
    if (error.name !== 'AbortError') {
      throw error;
    }
  } finally {
    item.removeAttribute('aria-busy');
    if (!said.includes(reply)) {
      items.forEach((it) => it.remove());
      $('message').value ||= prompt; // nothing typed is lost
    }
    save();
  }
}

/** The answer's pieces. A token that is refused before its time is renewed once, where that is possible. */
async function* pieces(call) {
  try {
    yield* invoke(config, call);
  } catch (error) {
    const renewed = error.status === 401 && (await login.renew());
    if (!renewed) {
      throw error;
    }
    yield* invoke(config, { ...call, token: renewed });
  }
}

async function signInAgain(draft) {
  if (draft) {
    sessionStorage.setItem(DRAFT, draft);
  }
  save();
  await login.signIn();
}

function busy(yes) {
  $('send').disabled = yes;
  $('new').disabled = yes;
  $('stop').hidden = !yes;
}

function calm() {
  $('trouble').hidden = true;
}

function complain(error) {
  const kind = {
    401: 'The agent does not take this token',
    403: 'You may not call this agent',
    424: 'The agent failed',
    429: 'Too many calls',
  }[error.status];
  $('what').textContent = error.status ? `${kind ?? 'The call failed'} (${error.status}): ${error.message}` : error.message;
  $('details').textContent = (error.details ?? []).join(' · ');
  $('again').hidden = !(error.status === 401 || error instanceof LoginError);
  $('trouble').hidden = false;
  if (!(error instanceof CallError || error instanceof LoginError)) {
    console.error(error);
  }
}

/** For what a button begins: what goes wrong is shown. */
const shown = (action) => () => { calm(); action().catch(complain); };

$('sign-in').addEventListener('click', shown(() => login.signIn()));
$('again').addEventListener('click', shown(() => signInAgain($('message').value)));
$('sign-out').addEventListener('click', shown(async () => {
  running?.abort();
  end(conversation);
  localStorage.removeItem(storageKey());
  conversation = null;
  const left = login.signOut();
  show();
  await left;
}));
$('new').addEventListener('click', () => {
  calm();
  end(conversation);
  conversation = begin();
  save();
  $('conversation').replaceChildren();
  $('message').focus();
});
$('stop').addEventListener('click', () => running?.abort());
$('say').addEventListener('submit', (event) => {
  event.preventDefault();
  const prompt = $('message').value.trim();
  if (prompt && !running) {
    $('message').value = '';
    say(prompt);
  }
});
$('message').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $('say').requestSubmit();
  }
});
addEventListener('pagehide', save);
// The same user in another tab of this browser.
addEventListener('storage', (event) => {
  if (login?.user && event.key === storageKey() && event.newValue && !running) {
    show();
  }
});
