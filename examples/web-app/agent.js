// Calls the agent: InvokeAgentRuntime with a bearer token, straight from the browser, and reads its answer as it comes.

const SESSION = 'X-Amzn-Bedrock-AgentCore-Runtime-Session-Id';

/** An answer that is none: `status` 0 means that there was no answer at all. */
export class CallError extends Error {
  constructor(message, status, details = []) {
    super(message);
    this.status = status;
    this.details = details.filter(Boolean);
  }
}

/** The identifiers of the providers whose tokens the agent takes (RFC 9728); no token is needed to ask. */
export async function providersOf(config) {
  const reply = await request(config, 'invocations/.well-known/oauth-protected-resource', {});
  return (await reply.json()).authorization_servers ?? [];
}

/** Sends a prompt and yields the pieces of the answer as text. A session id has 33 characters or more. */
export async function* invoke(config, { token, session, prompt, signal }) {
  const reply = await request(config, 'invocations', {
    method: 'POST',
    headers: {
      Authorization: `Bearer ${token}`,
      'Content-Type': 'application/json',
      Accept: 'text/event-stream, application/json',
      [SESSION]: session,
    },
    body: JSON.stringify({ prompt }),
    signal,
  });
  const kind = reply.headers.get('Content-Type') ?? '';
  try {
    if (kind.startsWith('text/event-stream')) {
      for await (const data of events(reply.body)) {
        yield textOf(parsed(data));
      }
    } else {
      yield textOf(parsed(await reply.text()));
    }
  } catch (error) {
    if (error instanceof CallError || error.name === 'AbortError') {
      throw error;
    }
    throw new CallError('The answer broke off.', 0, [error.message]);
  }
}

/** Ends a session, so that what it holds is free before its idle time is over. */
export async function stop(config, { token, session }) {
  const headers = { Authorization: `Bearer ${token}`, [SESSION]: session };
  await request(config, 'stopruntimesession', { method: 'POST', headers, keepalive: true });
}

/** What of a piece is to be read. Agents differ: let it know what yours sends. */
function textOf(piece) {
  if (typeof piece === 'string') {
    return piece;
  }
  if (typeof piece?.error === 'string') {
    throw new CallError(piece.error, 200, [piece.error_type, piece.message]); // how the SDK reports a failing stream
  }
  if (typeof piece?.word === 'string') {
    return `${piece.word} `; // examples/python-agent
  }
  const text = piece?.answer ?? piece?.text ?? piece?.delta ?? piece?.result;
  return typeof text === 'string' ? text : JSON.stringify(piece, null, 2);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

async function request(config, path, options) {
  const runtime = `${config.endpoint.replace(/\/$/, '')}/runtimes/${encodeURIComponent(config.agentRuntimeArn)}`;
  const address = `${runtime}/${path}?${new URLSearchParams({ qualifier: config.qualifier })}`;
  const reply = await fetch(address, options).catch((error) => {
    if (error.name === 'AbortError') {
      throw error;
    }
    // A browser does not tell a page more than this.
    const why = `Is it running, and does its configuration allow the origin ${location.origin}?`;
    throw new CallError(`${config.endpoint} did not answer. ${why}`, 0);
  });
  if (!reply.ok) {
    const text = await reply.text();
    const said = parsed(text);
    throw new CallError(said?.message ?? (text || 'It said nothing more.'), reply.status, [
      reply.headers.get('x-amzn-errortype'),
      reply.headers.get('x-eyot-agent-error'),
      reply.headers.get('x-amzn-requestid') && `request ${reply.headers.get('x-amzn-requestid')}`,
    ]);
  }
  return reply;
}

/** The data of each server-sent event, as soon as it is complete. */
async function* events(body) {
  let data = [];
  for await (const line of lines(body)) {
    if (line.startsWith('data:')) {
      data.push(line.slice(line[5] === ' ' ? 6 : 5));
    } else if (line === '' && data.length > 0) {
      yield data.join('\n');
      data = [];
    }
  }
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      const parts = (rest + value).split('\n');
      rest = parts.pop();
      yield* parts.map((line) => line.replace(/\r$/, ''));
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stops reading stops the agent's answer, too
  }
}
