-- One point SELECT per request over GET, the number in the text. Requests are made beforehand and taken in turn.
local ready, at = {}, 0
init = function()
  for i = 1, 1000 do
    local id = (i * 7919) % 10000 + 1
    ready[i] = wrk.format("GET", "/db/query?q=SELECT+id,name,value+FROM+point+WHERE+id=" .. id)
  end
end
request = function()
  at = at % 1000 + 1
  return ready[at]
end
