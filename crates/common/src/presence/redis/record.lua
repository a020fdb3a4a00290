-- Raises the positions of a session, all or none of them visible at a time.
-- KEYS: the session's hash. ARGV: its life in ms, the most streams it may hold, then stream and
-- position in turn.
local known = redis.call('HLEN', KEYS[1])
for i = 3, #ARGV, 2 do
  local stream, position = ARGV[i], ARGV[i + 1]
  local last = redis.call('HGET', KEYS[1], stream)
  if not last then
    if known < tonumber(ARGV[2]) then
      redis.call('HSET', KEYS[1], stream, position)
      known = known + 1
    end
  -- Compared as text: Lua's numbers are exact only up to 2^53.
  elseif #position > #last or (#position == #last and position > last) then
    redis.call('HSET', KEYS[1], stream, position)
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
