-- submit stores a job as the first member of a sweep of its own.
--
-- KEYS  as in prelude.lua for the job, then: tenant's index of jobs (zset), record of the request id (string),
--       tenants (set)
-- args  1 tenant, 2 most active jobs of a tenant, 3 request id or "", 4 fingerprint of what is asked for,
--       5 ms that the request id is remembered, 6 limit, 7 grid, 8 queue, 9 window,
--       10 ... fields of the job's hash, each with its value
-- Returns {"created", ticket...} | {"exists", id} | {"conflict", id} | {"quota", active jobs}
local j = jobs[1]
local index, request = KEYS[16], KEYS[17]
if args[3] ~= '' then
  local record = redis.call('GET', request)
  if record then
    local id, fingerprint = string.match(record, '^(%S+) (%S+)$')
    if fingerprint ~= args[4] then return {'conflict', id} end
    if id ~= j.id then return {'exists', id} end
  end
end
-- The same call again, after its reply was lost: the job is there, and the reconciler looks after its tickets.
if redis.call('EXISTS', j.key) == 1 then return {'created'} end
local count = num(active, args[1])
if count >= tonumber(args[2]) then return {'quota', tostring(count)} end

redis.call('HSET', j.key, 'id', j.id, 'tenant', args[1], 'state', 'PENDING', 'create', int(now), 'limit', args[6],
  'searched', '0', 'seq', '0', 'hits', '0', 'revision', '1', unpack(args, 10))
if redis.call('HGET', j.key, 'attached') == '1' then redis.call('HSET', j.key, 'orphan', int(now + ORPHAN)) end
redis.call('ZADD', live, int(now), j.id)
redis.call('HINCRBY', active, args[1], 1)
redis.call('ZADD', index, 0, j.id)
redis.call('SADD', KEYS[18], args[1])
if args[3] ~= '' then redis.call('SET', request, j.id .. ' ' .. args[4], 'PX', args[5]) end
redis.call('HSET', sweep, 'grid', args[7], 'queue', args[8], 'window', args[9], 'next', '0', 'watermark', '0')
enter(j)
-- Many searches are done with the first chunk. Its commit, or the reconciler, calls the others of the fleet.
return reply({'created', unpack(mint(2))})
