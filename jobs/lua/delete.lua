-- delete removes a job that has ended.
--
-- KEYS  as in prelude.lua for the job, then: tenant's index of jobs
-- args  1 tenant, 2 revision that is expected, or "", 3 name of this call
-- Returns {"ok"} | {"missing"} | {"active"} | {"changed"}
local j = jobs[1]
local deleted = 'DELETED ' .. args[3]
if redis.call('HGET', j.key, 'tenant') ~= args[1] then
  -- The same call again, after its reply was lost, is no failure.
  if redis.call('GET', j.stop) == deleted then return {'ok'} end
  return {'missing'}
end
if args[2] ~= '' and redis.call('HGET', j.key, 'revision') ~= args[2] then return {'changed'} end
if redis.call('HEXISTS', j.key, 'end') == 0 then return {'active'} end
redis.call('DEL', j.key, j.pending, j.log, j.changes, j.trail)
redis.call('SET', j.stop, deleted, 'PX', RETRIED)
redis.call('ZREM', KEYS[18], j.id)
return {'ok'}
