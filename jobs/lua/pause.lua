-- pause orders a job to be left alone until it is resumed. It is confirmed when nothing runs for it any more.
--
-- KEYS  as in prelude.lua for the job
-- args  1 tenant
-- Returns {"ok"} | {"attached"} | {"stopping"} | {"ended"} | {"missing"}
local j = jobs[1]
if redis.call('HGET', j.key, 'tenant') ~= args[1] then return {'missing'} end
local s = state(j)
if s == 'CANCELLING' then return {'stopping'} end
if s ~= 'PENDING' and s ~= 'RUNNING' then return {'ended'} end
if redis.call('HGET', j.key, 'attached') == '1' then return {'attached'} end
if not pausing(j) then
  redis.call('HSET', j.key, 'pause', int(now))
  redis.call('HINCRBY', j.key, 'revision', 1)
  redis.call('SET', j.stop, 'PAUSED ' .. int(now))
  change(j, 'PAUSING')
  leave(j)
  redis.call('DEL', tickets) -- those that are in the queue call for nothing now
end
settle(j)
return reply({'ok'})
