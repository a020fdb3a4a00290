-- Records whom a server holds. ARGV[3]: the server; then user, `active`, `away` or `gone`, and for
-- how many ms they have been gone, in turn. Answers nothing if the server is not alive; otherwise the time,
-- and of each the state, when seen (or -1), and whether that is another state than before.
local server = ARGV[3]
if not alive(server) then
  return false
end
local answer = {}
for i = 4, #ARGV, 3 do
  local user, state = ARGV[i], ARGV[i + 1]
  local before = look(user)
  if state == 'gone' then
    take_off(server, user, now - tonumber(ARGV[i + 2]))
  else
    local key = prefix .. ':user:' .. user
    redis.call('HSET', key, server, state)
    redis.call('PERSIST', key)
    redis.call('SADD', prefix .. ':held:' .. server, user)
  end
  local after, seen = look(user)
  answer[#answer + 1] = {after, seen, before ~= after and 1 or 0}
end
return {now, answer}
