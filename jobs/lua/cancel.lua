-- cancel orders a job to stop.
--
-- KEYS  as in prelude.lua for the job
-- args  1 tenant, 2 reason, 3 state in which the job is to end
-- Returns {"ok"} | {"ended"}  it ended otherwise before | {"missing"}
local j = jobs[1]
if redis.call('HGET', j.key, 'tenant') ~= args[1] then return {'missing'} end
local s = state(j)
if s == 'PENDING' or s == 'RUNNING' then
  order_stop(j, args[3], args[2])
  settle(j)
elseif s ~= 'CANCELLING' and s ~= 'CANCELLED' then
  return {'ended'}
end
return reply({'ok'})
