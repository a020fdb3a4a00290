-- Gives a server a life, or prolongs it. ARGV[3]: the server; ARGV[4]: its life in ms; ARGV[5]:
-- `begin` for a new one. Answers whether it is alive.
local server = ARGV[3]
if ARGV[5] ~= 'begin' and not alive(server) then
  return 0
end
redis.call('SET', prefix .. ':server:' .. server, 1, 'PX', ARGV[4])
redis.call('HSET', prefix .. ':servers', server, string.format('%.0f', now))
return 1
