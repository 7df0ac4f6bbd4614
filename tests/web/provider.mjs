// An OpenID provider for the tests: the certified `oidc-provider`, with its own login and consent forms.
//
// Started as `node provider.mjs <json>`; prints its issuer when it listens and ends with its standard input. Members:
//   port       0 for a free one
//   keys       private keys as JWKs; the first of a kind signs
//   clients    as oidc-provider takes them
//   resources  {identifier: lifetime of its access tokens in seconds}; a token's `aud` is the identifier
//   seconds    how far its clock is off, default 0

import { createServer } from 'node:http';
import { createRequire } from 'node:module';

// Packages are installed elsewhere, so that nothing is written beside the sources.
const { Provider, errors } = createRequire(`${process.env.EYOT_TEST_WEB}/`)('oidc-provider');
const settings = JSON.parse(process.argv[2]);

if (settings.seconds) {
  const now = Date.now;
  Date.now = () => now() + settings.seconds * 1000;
}

function resourceServer(_context, identifier) {
  const lifetime = settings.resources[identifier];
  if (!lifetime) {
    throw new errors.InvalidTarget(`there is no resource ${identifier}`);
  }
  const format = { accessTokenFormat: 'jwt', jwt: { sign: { alg: settings.keys[0].alg } } };
  return { audience: identifier, scope: 'invoke', accessTokenTTL: lifetime, ...format };
}

const server = createServer();
server.listen(settings.port, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: settings.clients,
    clientDefaults: { id_token_signed_response_alg: settings.keys[0].alg },
    jwks: { keys: settings.keys },
    scopes: ['openid', 'invoke'],
    cookies: { keys: ['only for tests'] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: { enabled: true, getResourceServerInfo: resourceServer },
      revocation: { enabled: true },
    },
    // Who may have refresh tokens stands in `clients`; they need no scope of their own here.
    issueRefreshToken: (_context, client) => client.grantTypeAllowed('refresh_token'),
    clientBasedCORS: () => true,
    pkce: { required: () => true },
  });
  // What went wrong stands in the output that a failing test shows.
  provider.on('server_error', (_context, error) => console.error(error));
  server.on('request', provider.callback());
  console.log(issuer);
});
process.stdin.on('close', () => process.exit(0)).resume();
