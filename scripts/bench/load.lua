-- One load for wrk:  wrk ... -s load.lua URL -- WHAT LOGINS
-- WHAT is transfer, hot, credit or a path to read. LOGINS is a file with a line "PHONE TOKEN" for each caller.
-- The last line of its output is the result as JSON; latencies are in milliseconds.

local threads = {}
local callers = {}
local what

function setup(thread)
  table.insert(threads, thread)
  thread:set("seed", #threads)
end

function init(args)
  math.randomseed(seed)
  what = args[1]
  for line in io.lines(args[2]) do
    local phone, token = line:match("(%S+) (%S+)")
    table.insert(callers, { phone = phone, headers = {
      ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" } })
  end
  failed, example = 0, ""
end

-- A caller from the first-th on, but not `other`.
local function any(first, other)
  local caller
  repeat caller = callers[math.random(first, #callers)] until caller ~= other
  return caller
end

local function pay(payer, receiver)
  local body = '{"to_phone_number": "' .. receiver.phone .. '", "amount": "1.00", "remarks": "Lunch"}'
  return wrk.format("POST", "/wallet/transfer/", payer.headers, body)
end

function request()
  if what == "transfer" then
    local payer = any(1)
    return pay(payer, any(1, payer))
  elseif what == "hot" then
    return pay(any(2), callers[1])
  elseif what == "credit" then
    return wrk.format("POST", "/wallet/credit/", any(1).headers, '{"amount": "1.00"}')
  end
  return wrk.format("GET", what, any(1).headers)
end

function response(status, headers, body)
  if status < 200 or status > 299 then
    failed = failed + 1
    example = status .. " " .. body:gsub("%c", " ")
  end
end

function done(summary, latency)
  local errors = summary.errors
  local failures = errors.connect + errors.read + errors.write + errors.timeout
  local example = ""
  for _, thread in ipairs(threads) do
    failures = failures + thread:get("failed")
    example = thread:get("example")
  end
  io.write(string.format('{"rate": %.2f, "p50": %.3f, "p99": %.3f, "failures": %d, "example": %q}\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    failures, example))
end
