-- Gives an edit lease to a session, or says who has it.
-- KEYS: the lease's hash. ARGV: session, user, the time, the lease's life in ms, 1 to take it from
-- whoever has it. Returns whether the session had it before (1, 0; nothing if it is somebody
-- else's), and what read_lease.lua does.
local session = redis.call('HGET', KEYS[1], 'session')
local had = session == ARGV[1]
if session and not had and ARGV[5] ~= '1' then
  had = nil
else
  if not had then
    redis.call('HSET', KEYS[1], 'session', ARGV[1], 'user', ARGV[2], 'since', ARGV[3])
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
local held = redis.call('HMGET', KEYS[1], 'session', 'user', 'since')
local answer = false
if had ~= nil then answer = had and 1 or 0 end
return {answer, {held[1], held[2], held[3], redis.call('PTTL', KEYS[1])}}
