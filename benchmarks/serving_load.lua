-- wrk's side of `benchmarks serving`: every request is a payment of its own.
--
-- Arguments after `--`: templates, path, prefix of ids, number of the first payment, payments per
-- request (0: the body is the payment itself), first event time and gap in microseconds.
-- Prints one line of JSON at the end.
local late, heads, middles, tails = {}, {}, {}, {}
local path, prefix, number, batch, start_us, gap_us
local cached_second, cached_text

function init(args)
  for line in io.lines(args[1]) do
    local l, head, middle, tail = line:match("^([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)$")
    late[#late + 1] = tonumber(l)
    heads[#heads + 1], middles[#middles + 1], tails[#tails + 1] = head, middle, tail
  end
  path, prefix = args[2], args[3]
  number, batch = tonumber(args[4]), tonumber(args[5])
  start_us, gap_us = tonumber(args[6]), tonumber(args[7])
end

local function payment()
  local i = number % #late + 1
  local time = start_us + number * gap_us - late[i]
  local second = math.floor(time / 1e6)
  if second ~= cached_second then
    cached_second, cached_text = second, os.date("!%Y-%m-%dT%H:%M:%S", second)
  end
  local text = string.format("%s%s-%d%s%s.%06dZ%s", heads[i], prefix, number, middles[i],
    cached_text, time - second * 1e6, tails[i])
  number = number + 1
  return text
end

function request()
  local body
  if batch == 0 then
    body = payment()
  else
    local rows = {}
    for i = 1, batch do rows[i] = payment() end
    body = '{"transactions":[' .. table.concat(rows, ",") .. "]}"
  end
  return "POST " .. path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" ..
    "Content-Length: " .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"errors":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d}\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
