-- lead makes a process the leader of a pool's reconcilers, or keeps it so, or lets it step down. Each process calls it
-- twice a second, whether it leads or not: so it also notes when none did for long.
--
-- KEYS  1 leader, 2 presence: hash, called: when a process last was there; back: when one was again after an absence
-- ARGV  1 process, 2 ms until its leadership ends by itself; 0: it steps down
-- Returns 1 if it leads
local ABSENCE = 3000 -- ms, as in prelude.lua
local APART = 250    -- ms that two notes are apart: each is a write, and there may be many processes
local leader = redis.call('GET', KEYS[1])
if ARGV[2] == '0' then
  if leader == ARGV[1] then redis.call('DEL', KEYS[1]) end
  return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local called = tonumber(redis.call('HGET', KEYS[2], 'called') or 0)
if now < called or now >= called + APART then
  if now < called or now > called + ABSENCE then redis.call('HSET', KEYS[2], 'back', string.format('%.0f', now)) end
  redis.call('HSET', KEYS[2], 'called', string.format('%.0f', now))
end
-- A leadership that seems to last longer was timed before the clock was set back; nobody may be there to renew it.
local stale = redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2])
if leader and leader ~= ARGV[1] and not stale then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
