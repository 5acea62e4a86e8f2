-- resume lets a job go on that is paused, or is to be. Work that was given back is claimed again.
--
-- KEYS  as in prelude.lua for the job
-- args  1 tenant
-- Returns {"ok", ticket...}  all that no worker has used | {"stopping"} | {"ended"} | {"missing"}
local j = jobs[1]
if redis.call('HGET', j.key, 'tenant') ~= args[1] then return {'missing'} end
local s = state(j)
if s == 'CANCELLING' then return {'stopping'} end
if s ~= 'PENDING' and s ~= 'RUNNING' then return {'ended'} end
if pausing(j) then
  unpause(j)
  redis.call('HSET', j.key, 'rate_at', int(now), 'rate_count', '0') -- the pause is no time of the rate's
  redis.call('HINCRBY', j.key, 'revision', 1)
  redis.call('DEL', j.stop)
  change(j, s)
  enter(j)
  mint()
end
return reply({'ok', unpack(redis.call('ZRANGE', tickets, 0, -1))})
