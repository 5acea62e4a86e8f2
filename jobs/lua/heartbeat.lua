-- heartbeat keeps a worker in the fleet and drops those that have gone quiet.
--
-- KEYS  1 fleet: hash worker -> "<time at which it is dropped> <slots> <candidates a second>"
-- ARGV  1 worker, 2 slots; 0: it leaves, 3 candidates a second, 4 ms until it is dropped
-- Returns {}
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if tonumber(string.match(all[i + 1], '^%d+')) < now then redis.call('HDEL', KEYS[1], all[i]) end
end
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + ARGV[4]) .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
end
return {}
