// GET /edge/{action} at the edge: an answer that was computed ahead is given without the back end, if nothing that it was computed from
// has changed since. Whatever is not as it should be is forwarded: the worst that can happen here is a request that the origin answers.
// CloudFront Function, viewer request, cloudfront-js-2.0. docs/edge-aws.md; src/farthing/aws/edge_codec.py writes what this reads.
import cf from 'cloudfront';
import crypto from 'crypto';

const kvs = cf.kvs();
const COOKIE = 'farthing_edge';
const MOST_ACTION = 128;
const ORIGIN = 'answers'; // the origin of the distribution with the bucket

function part(name) {
    return crypto.createHash('sha256').update(name).digest('base64url').substring(0, 22);
}

function same(a, b) { // in a time that says nothing of where they differ
    if (a.length !== b.length) return false;
    let differs = 0;
    for (let i = 0; i < a.length; i++) differs |= a.charCodeAt(i) ^ b.charCodeAt(i);
    return differs === 0;
}

function decoded(segment) {
    return JSON.parse(Buffer.from(segment, 'base64url').toString('utf8'));
}

// Who asks: {t: tenant, u: user} of a JWT (HS256) that is signed with a key of the store, and has not expired; else null.
async function caller(request, now) {
    const cookie = request.cookies && request.cookies[COOKIE];
    if (!cookie || cookie.value.length > 2048) return null;
    const segments = cookie.value.split('.');
    if (segments.length !== 3) return null;
    const header = decoded(segments[0]);
    if (header.alg !== 'HS256' || typeof header.kid !== 'string' || !/^[A-Za-z0-9_-]{1,32}$/.test(header.kid)) return null;
    const key = await kvs.get('k.' + header.kid);
    const signature = crypto.createHmac('sha256', key).update(segments[0] + '.' + segments[1]).digest('base64url');
    if (!same(signature, segments[2])) return null;
    const claims = decoded(segments[1]);
    if (typeof claims.exp !== 'number' || claims.exp * 1000 <= now) return null;
    if (typeof claims.tenant !== 'string' || typeof claims.sub !== 'string' || !claims.tenant || !claims.sub) return null;
    return { tenant: claims.tenant, user: claims.sub };
}

async function fresh(tenant, versions) {
    const states = Object.keys(versions);
    for (let i = 0; i < states.length; i++) { // one after the other, as AWS advises
        const key = 'v.' + tenant + '.' + part(states[i]);
        const now = (await kvs.exists(key)) ? Number(await kvs.get(key)) : 0;
        if (now !== versions[states[i]]) return false;
    }
    return true;
}

async function found(request, who, action, now) {
    const tenant = part(who.tenant);
    const value = await kvs.get('a.' + tenant + '.' + part(who.user) + '.' + part(action)); // throws if there is none
    const end = value.indexOf('\n');
    const head = JSON.parse(end < 0 ? value : value.substring(0, end));
    if (head.e <= now * 1000 || !(await fresh(tenant, head.v))) return request;
    const etag = '"' + head.r + '"';
    const headers = {
        'cache-control': { value: 'private, no-cache' }, // only the store knows whether it is still fresh
        'etag': { value: etag },
        'age': { value: String(Math.max(0, Math.floor((now - head.t / 1000) / 1000))) },
        'x-farthing-source': { value: 'edge' },
        'x-farthing-model': { value: head.m },
        'x-farthing-request-id': { value: head.r.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-') },
    };
    const known = request.headers['if-none-match'];
    if (known && known.value.indexOf(etag) >= 0) return { statusCode: 304, statusDescription: 'Not Modified', headers: headers };
    if (head.p) { // it is in S3
        request.uri = '/' + head.p;
        request.querystring = {};
        cf.selectRequestOriginById(ORIGIN);
        return request;
    }
    headers['content-type'] = { value: head.f === 'text' ? 'text/plain; charset=utf-8' : 'application/json' };
    return { statusCode: 200, statusDescription: 'OK', headers: headers, body: { encoding: 'text', data: value.substring(end + 1) } };
}

async function handler(event) {
    const request = event.request;
    const now = Date.now();
    delete request.headers['x-farthing-user']; // who somebody says that he is
    delete request.querystring.user;
    try {
        const path = /^\/edge\/([^/]+)$/.exec(request.uri);
        const who = path && (await caller(request, now));
        if (!who) return request;
        request.querystring.user = { value: encodeURIComponent(who.user) };
        const action = decodeURIComponent(path[1]);
        if (request.method !== 'GET' || action.length > MOST_ACTION) return request;
        return await found(request, who, action, now);
    } catch (error) { // a miss, a store that is away, a cookie that is none
        return request;
    }
}
