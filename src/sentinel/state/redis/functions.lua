-- The functions of shared records. They store bytes and count positions; what an event does to a
-- record is the business of the scorers' kernel alone. `library.py` names the library.
--
-- A record is one string: a header, the base, the tail.
--   header  bytes of the base (u32), zero (u32), position of the base (i64), through (i64)
--   base    a packed record of the kernel: the fold of every event up to the base's position
--   tail    events of a fixed width, one after the other; each takes the next position
-- An event begins with three words: the transaction's id hash, the session of the scorer that
-- appended it, and a number with the event's kind in its low byte. What a follower of the log
-- appends has session 0. `through` is the last step of the log that a follower has appended.
--
-- Numbers in Lua are doubles: positions and steps stay below 2^53, and words are compared as bytes.

local HEADER, ADD, VOID, NOBODY = 24, 0, 7, '\0\0\0\0\0\0\0\0'

local sub, find, byte, rep, pack, unpack, call

-- The standard functions are not there yet while a library is loaded.
local function prepare()
  sub, find, byte, rep = string.sub, string.find, string.byte, string.rep
  pack, unpack, call = struct.pack, struct.unpack, redis.call
end

-- How many events of a transaction stand in the tail, those that were voided not counted.
local function standing(value, start, width, id)
  local count, at = 0, find(value, id, start + 1, true)
  while at do
    if (at - start - 1) % width == 0 then
      local kind = byte(value, at + 16)
      if kind == ADD then count = count + 1 elseif kind == VOID then count = count - 1 end
    end
    at = find(value, id, at + 1, true)
  end
  return count
end

-- The place in the tail, from 0, of the event that begins with certain bytes; nil if there is none.
local function place_of(value, start, width, beginning)
  local at = find(value, beginning, start + 1, true)
  while at do
    if (at - start - 1) % width == 0 then return (at - start - 1) / width end
    at = find(value, beginning, at + 1, true)
  end
  return nil
end

-- Append events of new transactions. KEYS: the record. ARGS: width of an event (u32), 1 if a record
-- that does not exist is not to be made (u32, else 0), the position of the base if the record is new (i64), the position that the caller knows the
-- record at (i64, -1: it does not know it), the events.
-- Returns the position after which the returned events begin, the record's position before this
-- call, 0 or 1 + bytes of the returned base, the number of events that stand in the tail already
-- (i64, i64, u32, u32), the indices of those (i64 each), the base if it is returned, events.
-- Where a record is not to be made, the first position is -1.
local function append(keys, args)
  if not sub then prepare() end
  local key, arg = keys[1], args[1]
  local width, existing, first, known = unpack('<I4I4i8i8', arg)
  local events = sub(arg, 25)
  local value = call('GET', key)
  if not value then
    if existing == 1 then return pack('<i8i8I4I4', -1, -1, 0, 0) end
    if #events > 0 then
      call('APPEND', key, pack('<I4I4i8i8', 0, 0, first, 0) .. events)
    end
    return pack('<i8i8I4I4', first, first, 1, 0)
  end
  local base_bytes, _, base = unpack('<I4I4i8', value)
  local start = HEADER + base_bytes
  local position = base + (#value - start) / width
  local repeated, found = '', 0
  if #events > 0 then
    local new = events
    for at = 1, #events, width do
      if standing(value, start, width, sub(events, at, at + 7)) > 0 then
        if found == 0 then new = sub(events, 1, at - 1) end
        repeated = repeated .. pack('<i8', (at - 1) / width)
        found = found + 1
      elseif found > 0 then
        new = new .. sub(events, at, at + width - 1)
      end
    end
    if #new > 0 then call('APPEND', key, new) end
  end
  if known >= base and known <= position then
    return pack('<i8i8I4I4', known, position, 0, found) .. repeated
      .. sub(value, start + (known - base) * width + 1)
  end
  return pack('<i8i8I4I4', base, position, 1 + base_bytes, found) .. repeated
    .. sub(value, HEADER + 1)
end

-- Append what an entry of the log does to a record, once. KEYS: the record. ARGS: width (u32),
-- zero (u32), the position of the base if the record is new (i64), the step (i64), the event.
-- Returns the event's position; 0 if it was appended before and is part of the base by now.
local function follow(keys, args)
  if not sub then prepare() end
  local key, arg = keys[1], args[1]
  local width, _, first, step = unpack('<I4I4i8i8', arg)
  local event = sub(arg, 25)
  local value = call('GET', key)
  if not value then
    call('APPEND', key, pack('<I4I4i8i8', 0, 0, first, step) .. event)
    return first + 1
  end
  local base_bytes, _, base, through = unpack('<I4I4i8i8', value)
  local start = HEADER + base_bytes
  if through >= step then
    local place = place_of(value, start, width, sub(event, 1, 24))
    return place and base + place + 1 or 0
  end
  call('APPEND', key, event)
  call('SETRANGE', key, 16, pack('<i8', step))
  return base + (#value - start) / width + 1
end

-- Append what many entries of the log do to a record, each once. KEYS: the record. ARGS: width
-- (u32), zero (u32), the position of the base if the record is new (i64), the events, whose numbers
-- hold their steps, by rising step.
-- Returns the record's position before this call, how many of the events had been appended before
-- (i64, i64), and the positions of those, 0 for what is part of the base by now (i64 each).
local function follow_many(keys, args)
  if not sub then prepare() end
  local key, arg = keys[1], args[1]
  local width, _, first = unpack('<I4I4i8', arg)
  local at, size = 17, #arg
  local function step_at(place) return math.floor(unpack('<i8', arg, place + 16) / 256) end
  local last = step_at(size - width + 1)
  local head = call('GETRANGE', key, 0, HEADER - 1)
  if head == '' then
    call('APPEND', key, pack('<I4I4i8i8', 0, 0, first, last) .. sub(arg, at))
    return pack('<i8i8', first, 0)
  end
  local base_bytes, _, base, through = unpack('<I4I4i8i8', head)
  local start = HEADER + base_bytes
  local position = base + (call('STRLEN', key) - start) / width
  local places, value = {}, nil
  while at <= size and step_at(at) <= through do
    value = value or call('GET', key)
    local place = place_of(value, start, width, sub(arg, at, at + 23))
    places[#places + 1] = pack('<i8', place and base + place + 1 or 0)
    at = at + width
  end
  if at <= size then
    call('APPEND', key, sub(arg, at))
    call('SETRANGE', key, 16, pack('<i8', last))
  end
  return pack('<i8i8', position, #places) .. table.concat(places)
end

-- Take an event back whose transaction did not reach the log. KEYS: the record. ARGS: width (u32),
-- zero (u32), the first three words of the event.
-- Returns the position of the event and that of its void; nothing if the tail does not hold it.
local function void(keys, args)
  if not sub then prepare() end
  local key, arg = keys[1], args[1]
  local width = unpack('<I4', arg)
  local value = call('GET', key)
  if not value then return {} end
  local base_bytes, _, base = unpack('<I4I4i8', value)
  local start = HEADER + base_bytes
  local place = place_of(value, start, width, sub(arg, 9, 32))
  if not place then return {} end
  local head = sub(arg, 9, 24) .. string.char(VOID) .. sub(arg, 26, 32)
  local voided = place_of(value, start, width, head)
  if voided then return {base + place + 1, base + voided + 1} end
  call('APPEND', key, head .. pack('<i8', base + place + 1) .. rep('\0', width - 32))
  return {base + place + 1, base + (#value - start) / width + 1}
end

-- Whether an event behind a position voids one up to another position.
local function voids(value, start, width, base, seen, upto)
  for at = start + (seen - base) * width + 1, #value, width do
    if byte(value, at + 16) == VOID and unpack('<i8', value, at + 24) <= upto then return true end
  end
  return false
end

-- Fold the oldest events of the tail into the base. KEYS: the record. ARGS: width (u32), zero
-- (u32), the base's position before (i64), the one from now on (i64), the position through which
-- the caller saw the tail (i64), the new base. Returns 1, or 0 if the record has changed too much.
local function compact(keys, args)
  if not sub then prepare() end
  local key, arg = keys[1], args[1]
  local width, _, before, after, seen = unpack('<I4I4i8i8i8', arg)
  local value = call('GET', key)
  if not value then return 0 end
  local base_bytes, _, base, through = unpack('<I4I4i8i8', value)
  local start = HEADER + base_bytes
  if base ~= before or voids(value, start, width, base, seen, after) then return 0 end
  local new = sub(arg, 33)
  call('SET', key, pack('<I4I4i8i8', #new, 0, after, through) .. new
    .. sub(value, start + (after - base) * width + 1))
  return 1
end

-- Whether an event was appended by a follower of the log, for a step up to another.
local function is_followed(value, at, through)
  if sub(value, at + 8, at + 15) ~= NOBODY or byte(value, at + 16) == VOID then return false end
  return math.floor(unpack('<i8', value, at + 16) / 256) <= through
end

-- Put what the log says in a record's place and keep the events that it does not hold yet.
-- KEYS: the record. ARGS: width (u32), number of the positions to drop (u32), the base's position
-- before, -1 for none (i64), the one from now on (i64), the position through which the caller saw
-- the tail (i64), the step through which the base was folded (i64), the positions to drop (i64
-- each), the base.
-- Returns the number of events kept, or -1 if the record has changed too much.
local function reload(keys, args)
  if not sub then prepare() end
  local key, arg = keys[1], args[1]
  local width, drops, before, after, seen, through = unpack('<I4I4i8i8i8i8', arg)
  local new = sub(arg, 41 + 8 * drops)
  local value, kept = call('GET', key), ''
  if value then
    local base_bytes, _, base, followed = unpack('<I4I4i8i8', value)
    local start = HEADER + base_bytes
    if base ~= before or voids(value, start, width, base, seen, 2 ^ 53) then return -1 end
    local dropped = {}
    for i = 1, drops do dropped[unpack('<i8', arg, 33 + 8 * i)] = true end
    for at = start + 1, #value, width do
      local position = base + (at - start - 1) / width + 1
      -- Another follower may have come since the caller saw the tail.
      if not dropped[position] and not is_followed(value, at, through) then
        kept = kept .. sub(value, at, at + width - 1)
      end
    end
    if followed > through then through = followed end
  elseif before >= 0 then
    return -1
  end
  call('SET', key, pack('<I4I4i8i8', #new, 0, after, through) .. new .. kept)
  return #kept / width
end

-- Move the watermark of the log's followers on, unless somebody has moved it back meanwhile.
-- KEYS: the watermark. ARGS: what it was, what it is to be. Returns 1, or 0 if it was moved.
local function advance(keys, args)
  if not sub then prepare() end
  if (call('GET', keys[1]) or '0') ~= args[1] then return 0 end
  call('SET', keys[1], args[2])
  return 1
end

-- Write a checkpoint down, if this is still the server that it is about. KEYS: the checkpoint.
-- ARGS: the server's run, the text. Returns 1, or 0 if another server answers by now.
local function checkpoint(keys, args)
  if not sub then prepare() end
  if not find(call('INFO', 'server'), 'run_id:' .. args[1], 1, true) then return 0 end
  call('SET', keys[1], args[1] .. ' ' .. args[2])
  return 1
end

-- Hold a turn or a lock, or let go of it. KEYS: it. ARGS: who asks, for how many seconds (0: let go).
-- Returns 1 if nobody else holds it, else 0.
local function hold(keys, args)
  if not sub then prepare() end
  local key, who, seconds = keys[1], args[1], tonumber(args[2])
  local holder = call('GET', key)
  if holder and holder ~= who then return 0 end
  if seconds == 0 then
    if holder then call('DEL', key) end
  elseif holder then
    call('EXPIRE', key, seconds)
  else
    call('SET', key, who, 'EX', seconds)
  end
  return 1
end

-- Set a value while a lock is held. KEYS: the lock, where the value goes. ARGS: who holds it, the
-- value. Returns 1, or 0 if the lock is not theirs by now.
local function set_locked(keys, args)
  if not sub then prepare() end
  if call('GET', keys[1]) ~= args[1] then return 0 end
  call('SET', keys[2], args[2])
  return 1
end

-- Strike out of a hash what has not changed since it was read. KEYS: the hash. ARGS: fields, each
-- with the value that it had. Returns how many are gone.
local function strike(keys, args)
  if not sub then prepare() end
  local gone = 0
  for i = 1, #args, 2 do
    if call('HGET', keys[1], args[i]) == args[i + 1] then
      call('HDEL', keys[1], args[i])
      gone = gone + 1
    end
  end
  return gone
end

-- Note what a label says of a transaction that has not come yet. KEYS: those that wait, the
-- watermark of the log's followers. ARGS: the transaction's id, the label's entry; below 0 if it
-- takes an earlier label back. A follower that comes late changes nothing. Returns 1 if noted.
local function wait(keys, args)
  if not sub then prepare() end
  local entry = math.abs(tonumber(args[2]))
  if entry <= tonumber(call('GET', keys[2]) or '0') then return 0 end
  if math.abs(tonumber(call('HGET', keys[1], args[1]) or '0')) >= entry then return 0 end
  call('HSET', keys[1], args[1], args[2])
  return 1
end

redis.register_function(NAME .. '_append', append)
-- The same for callers that append nothing: a server that is full answers them, too.
redis.register_function{
  function_name = NAME .. '_read', callback = append, flags = {'no-writes'}
}
redis.register_function(NAME .. '_follow', follow)
redis.register_function(NAME .. '_follow_many', follow_many)
redis.register_function(NAME .. '_void', void)
redis.register_function(NAME .. '_compact', compact)
redis.register_function(NAME .. '_reload', reload)
redis.register_function(NAME .. '_advance', advance)
redis.register_function(NAME .. '_checkpoint', checkpoint)
redis.register_function(NAME .. '_set_locked', set_locked)
redis.register_function(NAME .. '_wait', wait)
-- These also work while the server is full: what they write takes no room, or gives some back.
redis.register_function{
  function_name = NAME .. '_hold', callback = hold, flags = {'allow-oom'}
}
redis.register_function{
  function_name = NAME .. '_strike', callback = strike, flags = {'allow-oom'}
}
