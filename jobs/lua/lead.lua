-- lead makes a process the leader of a pool's reconcilers, or keeps it so, or lets it step down.
--
-- KEYS  1 leader
-- ARGV  1 process, 2 ms until its leadership ends by itself; 0: it steps down
-- Returns 1 if it leads
local leader = redis.call('GET', KEYS[1])
-- A leadership that seems to last longer was timed before the clock was set back; nobody may be there to renew it.
local stale = ARGV[2] ~= '0' and redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2])
if leader and leader ~= ARGV[1] and not stale then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
