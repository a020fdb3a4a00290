-- Takes users off servers that are dead. ARGV[3]: how many at most. Answers the time, whether there
-- may be more, and of those who are something else than before the user, the state and when seen
-- (or -1).
local left = tonumber(ARGV[3])
local answer = {}
local servers = redis.call('HGETALL', prefix .. ':servers')
for i = 1, #servers, 2 do
  local server, renewed = servers[i], tonumber(servers[i + 1])
  if left > 0 and not alive(server) then
    local held = prefix .. ':held:' .. server
    for _, user in ipairs(redis.call('SPOP', held, left)) do
      local before = look(user, server)
      take_off(server, user, renewed)
      local after, seen = look(user)
      if before ~= after then
        answer[#answer + 1] = {user, after, seen}
      end
      left = left - 1
    end
    if redis.call('EXISTS', held) == 0 then
      redis.call('HDEL', prefix .. ':servers', server)
    end
  end
end
return {now, left == 0 and 1 or 0, answer}
