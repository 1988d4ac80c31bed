-- What scorers tell each other about their work, each list in one key. `redis_library.py` puts this
-- behind `redis_functions.lua`. A record is named by a member: its view's number, ':', its key.
--
-- KEYS: intents (token -> since when, members, each behind its length), marks (members scored by
-- ticket), tickets (a counter).

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function mark(keys, members)
  for _, member in ipairs(members) do
    redis.call('ZADD', keys[2], redis.call('INCR', keys[3]), member)
  end
end

-- Say which records are about to be changed. ARGS: token, members with their lengths.
local function intend(keys, args)
  return redis.call('HSET', keys[1], args[1], struct.pack('<i8', now()) .. args[2])
end

-- Say that changes are durable or undone. ARGS: tokens. Returns for each 1, or 0 where its
-- records have been marked meanwhile because it took so long.
local function finish(keys, args)
  local found = {}
  for i, token in ipairs(args) do found[i] = redis.call('HDEL', keys[1], token) end
  return found
end

-- Mark records for repair. ARGS: members.
local function mark_all(keys, args)
  mark(keys, args)
  return #args
end

-- Mark what those intended who have not finished. ARGS: older than how many microseconds.
-- Returns the number of intents.
local function abandon(keys, args)
  local all, time, found = redis.call('HGETALL', keys[1]), now(), 0
  for i = 1, #all, 2 do
    local intent = all[i + 1]
    if time - struct.unpack('<i8', intent) >= tonumber(args[1]) then
      local members, at = {}, 9
      while at <= #intent do
        local size = struct.unpack('<I4', intent, at)
        members[#members + 1] = string.sub(intent, at + 4, at + 3 + size)
        at = at + 4 + size
      end
      mark(keys, members)
      redis.call('HDEL', keys[1], all[i])
      found = found + 1
    end
  end
  return found
end

-- Take a mark away unless it was renewed. ARGS: member, ticket. Returns 1 or 0.
local function unmark(keys, args)
  if redis.call('ZSCORE', keys[2], args[1]) ~= args[2] then return 0 end
  return redis.call('ZREM', keys[2], args[1])
end

redis.register_function(NAME .. '_intend', intend)
redis.register_function(NAME .. '_finish', finish)
redis.register_function(NAME .. '_mark', mark_all)
redis.register_function(NAME .. '_abandon', abandon)
redis.register_function(NAME .. '_unmark', unmark)
