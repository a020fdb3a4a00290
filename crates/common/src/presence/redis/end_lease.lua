-- Ends an edit lease, if it is this session's.
-- KEYS: the lease's hash. ARGV: the session.
if redis.call('HGET', KEYS[1], 'session') == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
