-- attend keeps an attached job alive: somebody watches it.
--
-- KEYS  as in prelude.lua for the job
-- Returns {"ok"} | {"missing"}
local j = jobs[1]
if not state(j) then return {'missing'} end
if redis.call('HEXISTS', j.key, 'orphan') == 1 then redis.call('HSET', j.key, 'orphan', int(now + ORPHAN)) end
return {'ok'}
