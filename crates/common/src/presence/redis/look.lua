-- What the scripts about who is there share. ARGV[1]: what keys begin with; ARGV[2]: how long it
-- is remembered when somebody was seen, in ms.
--   server:<server>  there while the server is alive
--   servers          hash: server, and when it last renewed its life; dead ones until they are buried
--   held:<server>    set of the users that it holds
--   user:<user>      hash: server and `active` or `away`; and under `seen` when a connection ended
-- Keys of users and of what servers hold have no life: they go with their servers.
local prefix, kept = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local known = {}
local function alive(server)
  if known[server] == nil then
    known[server] = redis.call('EXISTS', prefix .. ':server:' .. server) == 1
  end
  return known[server]
end

-- How a user is, or would be if the server `as_if` were alive; and when last seen, or -1.
local function look(user, as_if)
  local fields = redis.call('HGETALL', prefix .. ':user:' .. user)
  local state, seen = 'offline', -1
  for i = 1, #fields, 2 do
    local server, value = fields[i], fields[i + 1]
    if server == 'seen' then
      seen = math.max(seen, tonumber(value))
    elseif server == as_if or alive(server) then
      if value == 'active' then
        state = 'online'
      elseif state == 'offline' then
        state = 'away'
      end
    else
      local renewed = redis.call('HGET', prefix .. ':servers', server)
      seen = math.max(seen, tonumber(renewed or -1))
    end
  end
  if state ~= 'offline' then
    seen = -1
  end
  return state, seen
end

-- A server holds a user no more, whose last connection there ended at the time `left`.
local function take_off(server, user, left)
  local key = prefix .. ':user:' .. user
  redis.call('HDEL', key, server)
  redis.call('SREM', prefix .. ':held:' .. server, user)
  local seen = tonumber(redis.call('HGET', key, 'seen') or -1)
  redis.call('HSET', key, 'seen', string.format('%.0f', math.max(seen, left)))
  if redis.call('HLEN', key) == 1 then
    redis.call('PEXPIRE', key, kept)
  end
end
