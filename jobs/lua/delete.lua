-- delete removes a job that has ended.
--
-- KEYS  as in prelude.lua for the job, then: tenant's index of jobs
-- args  1 tenant, 2 revision that is expected, or ""
-- Returns {"ok"} | {"missing"} | {"active"} | {"changed"}
local j = jobs[1]
if redis.call('HGET', j.key, 'tenant') ~= args[1] then return {'missing'} end
if args[2] ~= '' and redis.call('HGET', j.key, 'revision') ~= args[2] then return {'changed'} end
if redis.call('HEXISTS', j.key, 'end') == 0 then return {'active'} end
redis.call('DEL', j.key, j.pending, j.log, j.stop, j.changes, j.trail)
redis.call('ZREM', KEYS[18], j.id)
return {'ok'}
