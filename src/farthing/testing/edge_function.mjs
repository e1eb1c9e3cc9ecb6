// Runs deploy/aws/edge/function.js under Node against the cases that it is given: node edge_function.mjs FUNCTION CASES. Prints what came
// of each, as one JSON array. `cloudfront` is what AWS's documentation says of it: get() fails for a key that there is not.
import { readFileSync, writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [, , source, file] = process.argv;
const cases = JSON.parse(readFileSync(file, 'utf8'));
const folder = mkdtempSync(join(tmpdir(), 'edge-function-'));
let values = {}, origin = null, reads = 0;
globalThis.cloudfront = {
    kvs: () => ({
        get: async (key) => {
            reads++;
            if (typeof key !== 'string' || !Object.hasOwn(values, key)) throw new Error('KeyNotFound');
            return values[key];
        },
        exists: async (key) => { reads++; return Object.hasOwn(values, key); },
    }),
    selectRequestOriginById: (id) => { origin = id; },
};
const text = readFileSync(source, 'utf8')
    .replace("import cf from 'cloudfront';", 'const cf = globalThis.cloudfront;')
    .replace("import crypto from 'crypto';", "import crypto from 'node:crypto';");
const path = join(folder, 'function.mjs');
writeFileSync(path, text + '\nexport { handler };\n');
const { handler } = await import(pathToFileURL(path).href);
rmSync(folder, { recursive: true });

const results = [];
for (const one of cases) {
    values = one.values;
    origin = null;
    reads = 0;
    Date.now = () => one.now_ms;
    const headers = {};
    for (const [name, value] of Object.entries(one.request.headers)) headers[name] = { value };
    const cookies = one.request.cookie === null ? {} : { farthing_edge: { value: one.request.cookie } };
    const querystring = {};
    for (const [name, value] of Object.entries(one.request.query ?? {})) querystring[name] = { value };
    const request = { method: one.request.method, uri: one.request.uri, querystring, headers, cookies };
    const started = process.hrtime.bigint();
    const out = await handler({ version: '1.0', context: { eventType: 'viewer-request' }, viewer: { ip: '127.0.0.1' }, request });
    const micros = Number(process.hrtime.bigint() - started) / 1000;
    results.push({ name: one.name, out, origin, reads, micros });
}
console.log(JSON.stringify(results));
