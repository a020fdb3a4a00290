-- Who has an edit lease, and for how long still; nothing if nobody has.
-- KEYS: the lease's hash.
local held = redis.call('HMGET', KEYS[1], 'session', 'user', 'since')
if not held[1] then
  return false
end
return {held[1], held[2], held[3], redis.call('PTTL', KEYS[1])}
