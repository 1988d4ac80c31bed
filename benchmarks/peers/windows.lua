-- Sliding windows of one entity: the values before this event, then the event is added.
--
-- KEYS[1]  the entity; its record is one MessagePack string: per ring the newest tile and
--          count, sum and maximum of each tile, so that a read and a write are one call each
-- ARGV[1]  event time, seconds;  ARGV[2]  amount
-- Returns 4 doubles for each ring: count, sum, mean, maximum.
local HOPS = {300, 7200, 43200, 216000} -- windows of 1 hour, 1, 7 and 30 days
local TILES = {13, 13, 15, 13}
local KEEP_SECONDS = 31 * 86400

local time, amount = tonumber(ARGV[1]), tonumber(ARGV[2])
local packed = redis.call('GET', KEYS[1])
local rings = packed and cmsgpack.unpack(packed)
if not rings then
  rings = {}
  for r = 1, #HOPS do
    local ring = {0}
    for i = 2, 1 + 3 * TILES[r] do ring[i] = 0 end
    rings[r] = ring
  end
end
local answer = {}
for r = 1, #HOPS do
  local ring, tiles = rings[r], TILES[r]
  local tile = math.floor(time / HOPS[r])
  local newest = ring[1]
  if tile > newest then
    for t = math.max(newest + 1, tile - tiles + 1), tile do
      local at = 2 + 3 * (t % tiles)
      ring[at], ring[at + 1], ring[at + 2] = 0, 0, 0
    end
    ring[1] = tile
    newest = tile
  end
  local count, sum, largest = 0, 0, 0
  for at = 2, 3 * tiles, 3 do
    count = count + ring[at]
    sum = sum + ring[at + 1]
    if ring[at + 2] > largest then largest = ring[at + 2] end
  end
  if tile > newest - tiles then
    local at = 2 + 3 * (tile % tiles)
    ring[at] = ring[at] + 1
    ring[at + 1] = ring[at + 1] + amount
    if amount > ring[at + 2] then ring[at + 2] = amount end
  end
  answer[r] = struct.pack('<dddd', count, sum, count > 0 and sum / count or 0, largest)
end
redis.call('SET', KEYS[1], cmsgpack.pack(rings), 'EX', KEEP_SECONDS)
return table.concat(answer)
