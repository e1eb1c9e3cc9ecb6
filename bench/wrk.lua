-- Load for bench/gateway.py: POSTs BENCH_HEAD .. <text> .. BENCH_TAIL, where the text is new for each request (BENCH_UNIQUE=1) or
-- always the same, and prints its figures as one line of JSON (times in microseconds).
local head, tail, seed = os.getenv("BENCH_HEAD"), os.getenv("BENCH_TAIL"), os.getenv("BENCH_SEED")

wrk.method = "POST"
wrk.headers["content-type"] = "application/json"

if os.getenv("BENCH_UNIQUE") == "1" then
  local threads, sent = 0, 0
  function setup(thread)
    thread:set("thread_id", threads)
    threads = threads + 1
  end
  function request()
    sent = sent + 1
    return wrk.format(nil, nil, nil, head .. seed .. "-" .. thread_id .. "-" .. sent .. tail)
  end
else
  wrk.body = head .. seed .. tail
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,"not_2xx":%d,"broken":%d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
