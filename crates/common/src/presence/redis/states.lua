-- How users are. ARGV from 3 on: the users. Answers the time, and of each the state and when seen
-- (or -1).
local answer = {}
for i = 3, #ARGV do
  local state, seen = look(ARGV[i])
  answer[#answer + 1] = {state, seen}
end
return {now, answer}
