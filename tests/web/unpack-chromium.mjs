// Unpacks the Chromium of the package `@sparticuz/chromium`, with the libraries and the fonts that a bare Debian lacks,
// into the folder that TMPDIR names, because that is where the package unpacks to. Prints the path of the program.

import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const here = createRequire(`${process.env.EYOT_TEST_WEB}/`);
const entry = here.resolve('@sparticuz/chromium');
const { default: chromium, inflate } = await import(pathToFileURL(entry));
await inflate(join(dirname(entry), '../bin/al2023.tar.br'));
const program = await chromium.executablePath();

// The package's own looks for fonts in /tmp. Without any font Chromium shows, and finds, no text.
const fonts = join(dirname(program), 'fonts');
const configuration = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${fonts}</dir>
  <cachedir>${join(fonts, 'cache')}</cachedir>
</fontconfig>
`;
writeFileSync(join(fonts, 'fonts.conf'), configuration);
console.log(program);
