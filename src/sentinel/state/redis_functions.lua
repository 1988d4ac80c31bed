-- What Redis does to a record, atomically. `redis_library.py` puts the layout of a plan's views
-- before this text: NAME, RECENT, MOST_LOGGED and VIEWS.
--
-- A record is one string:
--
--   record   the int64 words of features/plan/program.py, little-endian
--   recent   ids of the latest changes, 8 bytes each: change p stands at place (p - 1) % RECENT
--   fence    only while the record is being rebuilt: token, position at the fence, when it was
--            put up, and every change since
--
-- A change is 8 bytes of id, then the int64 words time, amount, kind, filters and one hash for
-- each column counted distinct.
--
-- Numbers are doubles here. Times, minima and maxima are whole and below 2^53; what may grow
-- beyond (sums, the upper limb of squares) and hashes are taken in halves of 32 bits. Quotients of
-- whole numbers below 2^53 never round up to the next whole number, so floor(a / b) is exact.

local floor, min, max, abs, sub, find, rep, pack, unpack, call, NO_HASH
local TWO_20, TWO_32, TWO_40 = 2 ^ 20, 2 ^ 32, 2 ^ 40
local ADD, FRAUD, RETRACT = 0, 3, 4
local LATE, EXPIRED, REPEATED = 1, 2, 4
local TOKEN_BYTES, FENCE_BYTES = 16, 32
local HASHES = 41 -- where a change's hashes begin

-- Before the first call: the standard functions are not there yet while a library is loaded.
local function prepare()
  floor, min, max, abs = math.floor, math.min, math.max, math.abs
  sub, find, rep = string.sub, string.find, string.rep
  pack, unpack, call = struct.pack, struct.unpack, redis.call
  NO_HASH = rep('\0', 8)
  for _, view in pairs(VIEWS) do
    view.empty = rep('\0', view.bytes)
    view.head = view.bytes + 8 * RECENT
    for _, ring in ipairs(view.rings) do
      ring.more = ring.squares or ring.range
      ring.empty = rep('\0', ring.width)
      ring.zeros = rep('\0', ring.width * ring.tiles)
    end
  end
end

-- Whether a change satisfies the filter of a ring or a last time.
local function passes(rule, low, high)
  if rule.half == 0 then return true end
  local bits = rule.half == 1 and low or high
  return bits % (2 * rule.mask) >= rule.mask
end

-- A tile with one more transaction. It stands at byte `at` of `bytes`.
local function with(ring, bytes, at, amount, amount_low, amount_high)
  if not ring.more then
    if not ring.sum then
      local count, frauds = unpack('<I4I4', bytes, at)
      return pack('<I4I4', count + 1, frauds)
    end
    local count, frauds, low, high = unpack('<I4I4I4I4', bytes, at)
    low, high = low + amount_low, high + amount_high
    if low >= TWO_32 then low, high = low - TWO_32, high + 1 end
    return pack('<I4I4I4I4', count + 1, frauds, low, high % TWO_32)
  end
  local count, frauds = unpack('<I4I4', bytes, at)
  local new = pack('<I4I4', count + 1, frauds)
  at = at + 8
  if ring.sum then
    local low, high = unpack('<I4I4', bytes, at)
    low, high = low + amount_low, high + amount_high
    if low >= TWO_32 then low, high = low - TWO_32, high + 1 end
    new = new .. pack('<I4I4', low, high % TWO_32)
    at = at + 8
  end
  if ring.squares then
    local low, high_low, high_high = unpack('<i8I4I4', bytes, at)
    local size = abs(amount)
    local upper, lower = floor(size / TWO_20), size % TWO_20
    local cross = 2 * upper * lower
    low = low + lower * lower + cross % TWO_20 * TWO_20
    local more = upper * upper + floor(cross / TWO_20) + floor(low / TWO_40)
    high_low = high_low + more % TWO_32
    high_high = high_high + floor(more / TWO_32)
    if high_low >= TWO_32 then high_low, high_high = high_low - TWO_32, high_high + 1 end
    new = new .. pack('<i8I4I4', low % TWO_40, high_low, high_high % TWO_32)
    at = at + 16
  end
  if ring.range then
    if count == 0 then
      new = new .. pack('<i8i8', amount, amount)
    else
      local smallest, largest = unpack('<i8i8', bytes, at)
      new = new .. pack('<i8i8', min(smallest, amount), max(largest, amount))
    end
  end
  return new
end

-- Earliest event time that any window over a distinct set still covers.
local function horizon(set, newest)
  local first = newest
  for i = 1, #set.windows do
    local window = set.windows[i]
    first = min(first, floor((newest - window[1]) / window[2]) * window[2])
  end
  return first
end

-- Whether entry i of a distinct set stands before (time, hash): newest first, then larger hash.
local function stands_before(entries, i, time, hash)
  local its_time = unpack('<i8', entries, 16 * i + 1)
  if its_time ~= time then return its_time > time end
  local low, high = unpack('<I4i4', entries, 16 * i + 9)
  local new_low, new_high = unpack('<I4i4', hash)
  if high ~= new_high then return high > new_high end
  return low > new_low
end

-- Number of entries of a distinct set: those with a hash come first.
local function used_entries(entries, capacity)
  local low, high = 0, capacity
  if sub(entries, 16 * capacity - 7, 16 * capacity) ~= NO_HASH then return capacity end
  while low < high do
    local middle = floor((low + high) / 2)
    if sub(entries, 16 * middle + 9, 16 * middle + 16) == NO_HASH then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- Put (time, hash) into a distinct set of `used` entries; returns them, or nil if nothing changes.
local function with_distinct(entries, used, capacity, time, hash)
  local at = used
  local found = find(entries, hash, 1, true)
  while found and found % 16 ~= 9 do found = find(entries, hash, found + 1, true) end
  if found and found < 16 * used then
    at = (found - 9) / 16
    if unpack('<i8', entries, 16 * at + 1) >= time then return nil end
  elseif at == capacity then
    at = capacity - 1
    if stands_before(entries, at, time, hash) then return nil end
  end
  local place = 0
  while place < at and stands_before(entries, place, time, hash) do place = place + 1 end
  return sub(entries, 1, 16 * place)
    .. pack('<i8', time) .. hash
    .. sub(entries, 16 * place + 1, 16 * at)
    .. sub(entries, 16 * at + 17, 16 * used)
end

local function change_distincts(key, view, value, change, time, newest, advanced)
  for i = 1, #view.distincts do
    local set = view.distincts[i]
    local first = horizon(set, newest)
    local hash = sub(change, HASHES + set.column, HASHES + set.column + 7)
    local remember = hash ~= NO_HASH and time >= first
    if advanced or remember then
      local entries = sub(value, set.at + 1, set.at + 16 * set.capacity)
      local used = used_entries(entries, set.capacity)
      local left = used
      if advanced then
        while left > 0 and unpack('<i8', entries, 16 * left - 15) < first do left = left - 1 end
      end
      local new = remember and with_distinct(entries, left, set.capacity, time, hash)
      if not new and left < used then new = sub(entries, 1, 16 * left) end
      if new then
        if #new < 16 * used then new = new .. rep('\0', 16 * used - #new) end
        call('SETRANGE', key, set.at, new)
      end
    end
  end
end

-- Whether any window of a view, filters aside, reaches back to `time` from `newest`.
local function covered(view, time, newest)
  for _, span in ipairs(view.spans) do
    if floor(time / span[2]) >= floor((newest - span[1]) / span[2]) then return true end
  end
  for _, last in ipairs(view.lasts) do
    if floor(time / last.hop) >= floor((newest - last.window) / last.hop) then return true end
  end
  for _, set in ipairs(view.distincts) do
    if time >= horizon(set, newest) then return true end
  end
  return false
end

local function change_rings(key, view, value, time, before, newest, amount, change, low, high)
  local amount_low, amount_high = unpack('<I4I4', change, 17)
  for i = 1, #view.rings do
    local ring = view.rings[i]
    local hop, tiles, width = ring.hop, ring.tiles, ring.width
    local tile = floor(time / hop)
    local place = tile % tiles
    local counts = tile > floor(newest / hop) - tiles and passes(ring, low, high)
    -- The tiles that come in are emptied; the last of them is the event's own.
    local steps = before < newest and min(tile - floor(before / hop), tiles) or 0
    if steps == 0 then
      if counts then
        local at = ring.at + place * width
        call('SETRANGE', key, at, with(ring, value, at + 1, amount, amount_low, amount_high))
      end
    else
      local own = ring.empty
      if counts then own = with(ring, own, 1, amount, amount_low, amount_high) end
      local first = place - steps + 1
      if first >= 0 then
        local zeros = sub(ring.zeros, 1, (steps - 1) * width)
        call('SETRANGE', key, ring.at + first * width, zeros .. own)
      else
        call('SETRANGE', key, ring.at, sub(ring.zeros, 1, place * width) .. own)
        local behind = ring.at + (first + tiles) * width
        call('SETRANGE', key, behind, sub(ring.zeros, 1, -first * width))
      end
    end
  end
end

local function change_lasts(key, view, value, time, newest, advanced, low, high)
  for i = 1, #view.lasts do
    local last = view.lasts[i]
    local old = unpack('<i8', value, last.at + 1)
    local new = old
    local first = floor((newest - last.window) / last.hop)
    if advanced and old ~= 0 and floor((old - 1) / last.hop) < first then new = 0 end
    if passes(last, low, high) and floor(time / last.hop) >= first then
      new = max(new, time + 1)
    end
    if new ~= old then call('SETRANGE', key, last.at, pack('<i8', new)) end
  end
end

local function change_frauds(key, view, value, time, newest, change, low, high)
  for _, ring in ipairs(view.rings) do
    local tile = floor(time / ring.hop)
    if tile > floor(newest / ring.hop) - ring.tiles and passes(ring, low, high) then
      local at = ring.at + tile % ring.tiles * ring.width + 4
      local frauds = unpack('<I4', value, at + 1)
      call('SETRANGE', key, at, pack('<I4', (frauds + change) % TWO_32))
    end
  end
end

-- Make a change of a record, whose bytes so far are `value` (empty: there is none).
-- Returns the new position (0: a label found no record) and flags.
local function make(key, view, value, change, remembered)
  if #value == 0 then value = view.empty end
  local format, position, before = unpack('<i8i8i8', value)
  local time, amount, kind, low, high = unpack('<i8i8i8I4I4', change, 9)
  if format == 0 and kind ~= ADD then return 0, 0 end
  position = position + 1
  if remembered then
    -- First, since it is the far end: a new record gets its full size at once.
    call('SETRANGE', key, view.bytes + (position - 1) % RECENT * 8, sub(change, 1, 8))
  end
  if kind ~= ADD then
    change_frauds(key, view, value, time, before, kind == FRAUD and 1 or -1, low, high)
    call('SETRANGE', key, 8, pack('<i8', position))
    return position, 0
  end
  if format == 0 then before = time end
  local newest = max(before, time)
  local advanced = newest > before
  change_rings(key, view, value, time, before, newest, amount, change, low, high)
  change_lasts(key, view, value, time, newest, advanced, low, high)
  change_distincts(key, view, value, change, time, newest, advanced)
  call('SETRANGE', key, 0, pack('<i8i8i8', 1, position, newest))
  if time == newest then return position, 0 end
  return position, covered(view, time, newest) and LATE or LATE + EXPIRED
end

-- The position of a change that was made lately, or nil.
local function earlier(view, value, id)
  local found = find(value, id, view.bytes + 1, true)
  while found and (found - 1 - view.bytes) % 8 ~= 0 do
    found = find(value, id, found + 1, true)
  end
  if not found then return nil end
  local position = unpack('<i8', value, 9)
  local place = (found - 1 - view.bytes) / 8
  return position - (position - 1 - place) % RECENT
end

-- Make a change unless it was made before. KEYS: the record. ARGS: number of the view, the change.
-- Returns the record as it was before, the change's position and flags.
local function change(keys, args)
  if not floor then prepare() end
  local key, view = keys[1], VIEWS[tonumber(args[1])]
  local value = call('GETRANGE', key, 0, view.head) -- one byte more than there is without a fence
  local position = earlier(view, value, sub(args[2], 1, 8))
  if position then return {value, position, REPEATED} end
  local fenced = #value > view.head
  local flags
  position, flags = make(key, view, value, args[2], true)
  if fenced and position > 0 then
    local length = call('APPEND', key, args[2])
    if length > view.head + FENCE_BYTES + MOST_LOGGED * #args[2] then
      call('SET', key, call('GETRANGE', key, 0, view.head - 1))
    end
  end
  return {value, position, flags}
end

-- Put up a fence: changes are logged beside being made. KEYS: the record. ARGS: number of the
-- view, a token, and after how many microseconds a fence that stands already may be replaced.
-- Returns the position at the fence, or -1 if another stands.
local function fence(keys, args)
  if not floor then prepare() end
  local key, view = keys[1], VIEWS[tonumber(args[1])]
  local time = call('TIME')
  local now = time[1] * 1000000 + time[2]
  if call('STRLEN', key) > view.head then
    local since = unpack('<i8', call('GETRANGE', key, view.head + 24, view.head + 31))
    if now - since < tonumber(args[3]) then return -1 end
    call('SET', key, call('GETRANGE', key, 0, view.head - 1))
  end
  local position = 0
  local header = call('GETRANGE', key, 8, 15)
  if #header == 8 then position = unpack('<i8', header) end
  call('SETRANGE', key, view.head, args[2] .. pack('<i8i8', position, now))
  return position
end

-- Replace a record by its rebuilt words and take the fence down. KEYS: the record. ARGS: number of
-- the view, the fence's token, the words, the ids of logged changes that the words contain.
-- Returns the new position, or -1 if that fence is gone.
local function swap(keys, args)
  if not floor then prepare() end
  local key, view = keys[1], VIEWS[tonumber(args[1])]
  local value = call('GET', key)
  if not value or sub(value, view.head + 1, view.head + TOKEN_BYTES) ~= args[2] then return -1 end
  local position = unpack('<i8', value, 9)
  local fenced_at = unpack('<i8', value, view.head + TOKEN_BYTES + 1)
  -- What was changed before the fence may never have become durable: its ids are forgotten.
  local recent = {}
  for place = 0, RECENT - 1 do
    local its_position = position - (position - 1 - place) % RECENT
    local at = view.bytes + 8 * place
    local known = its_position > fenced_at and its_position > position + 1 - RECENT
    recent[place + 1] = known and sub(value, at + 1, at + 8) or NO_HASH
  end
  local held = {}
  for at = 1, #args[4], 8 do held[sub(args[4], at, at + 7)] = true end
  call('SET', key, args[3] .. table.concat(recent))
  for at = view.head + FENCE_BYTES + 1, #value, view.change do
    if not held[sub(value, at, at + 7)] then
      local current = call('GETRANGE', key, 0, view.head - 1)
      make(key, view, current, sub(value, at, at + view.change - 1), false)
    end
  end
  call('SETRANGE', key, 8, pack('<i8', position + 1))
  return position + 1
end

-- Take a fence down without a swap. KEYS: the record. ARGS: number of the view, the fence's token.
-- Returns 1, or 0 if that fence is gone.
local function unfence(keys, args)
  if not floor then prepare() end
  local key, view = keys[1], VIEWS[tonumber(args[1])]
  if call('GETRANGE', key, view.head, view.head + TOKEN_BYTES - 1) ~= args[2] then return 0 end
  call('SET', key, call('GETRANGE', key, 0, view.head - 1))
  return 1
end

redis.register_function(NAME .. '_change', change)
redis.register_function(NAME .. '_fence', fence)
redis.register_function(NAME .. '_swap', swap)
redis.register_function(NAME .. '_unfence', unfence)
