-- submit stores a job as the first member of a sweep of its own. One that extends another begins where that ended: with
-- its hits, its log and its time, and with a sweep that goes on from what it had searched.
--
-- KEYS  as in prelude.lua for the job, then: tenant's index of jobs (zset), record of the request id (string),
--       tenants (set); for an extension also: the hash and the log of the job that it extends, and the hash of the one
--       that is known to have extended that already
-- args  1 tenant, 2 most active jobs of a tenant, 3 request id or "", 4 fingerprint of what is asked for,
--       5 ms that the request id is remembered, 6 limit, 7 grid, 8 queue, 9 window,
--       10 job that it extends or "", 11 job that is known to have extended that or "",
--       12 ... fields of the job's hash, each with its value
-- Returns {"created", ticket...} | {"exists", id} | {"conflict", id} | {"quota", active jobs}; for an extension also
--         {"missing"} | {"unfit"}  it is not exhausted | {"taken", id}  by the one known | {"extended", id}  by this one:
--         call again
local j = jobs[1]
local index, request = KEYS[18], KEYS[19]
if args[3] ~= '' then
  local record = redis.call('GET', request)
  if record then
    local id, fingerprint = string.match(record, '^(%S+) (%S+)$')
    if fingerprint ~= args[4] then return {'conflict', id} end
    if id ~= j.id then return {'exists', id} end
  end
end
-- The same call again, after its reply was lost.
if redis.call('EXISTS', j.key) == 1 then return {'created', unpack(redis.call('ZRANGE', tickets, 0, -1))} end

local old
if args[10] ~= '' then
  old = {key = KEYS[21], log = KEYS[22]}
  if redis.call('HGET', old.key, 'tenant') ~= args[1] then return {'missing'} end
  if state(old) ~= 'EXHAUSTED' then return {'unfit'} end
  local by = redis.call('HGET', old.key, 'extended_by')
  if by and by ~= args[11] then return {'extended', by} end
  if by and redis.call('EXISTS', KEYS[23]) == 1 then return {'taken', by} end
end
local count = num(active, args[1])
if count >= tonumber(args[2]) then return {'quota', tostring(count)} end

redis.call('HSET', j.key, 'id', j.id, 'tenant', args[1], 'state', 'PENDING', 'create', int(now), 'limit', args[6],
  'searched', '0', 'seq', '0', 'hits', '0', 'revision', '1', 'request', args[3], unpack(args, 12))
change(j, 'PENDING')
local from = 0
if old then
  from = num(old.key, 'searched')
  local used = num(old.key, 'carried')
  local start = num(old.key, 'start')
  if start > 0 then used = used + math.max(0, num(old.key, 'end') - start - num(old.key, 'paused_for')) end -- the clock may have been set back
  redis.call('HSET', j.key, 'extends', args[10], 'origin', int(from), 'base', int(num(old.key, 'seq')),
    'carried', int(used), 'searched', int(from), 'seq', int(num(old.key, 'seq')), 'hits', int(num(old.key, 'hits')))
  local best = redis.call('HMGET', old.key, 'best_index', 'best_distance')
  if best[1] then redis.call('HSET', j.key, 'best_index', best[1], 'best_distance', best[2]) end
  redis.call('COPY', old.log, j.log)
  redis.call('PERSIST', j.log)
  redis.call('HSET', old.key, 'extended_by', j.id)
end
if redis.call('HGET', j.key, 'attached') == '1' then redis.call('HSET', j.key, 'orphan', int(now + ORPHAN)) end
redis.call('ZADD', live, int(now), j.id)
redis.call('HINCRBY', active, args[1], 1)
redis.call('ZADD', index, 0, j.id)
redis.call('SADD', KEYS[20], args[1])
if args[3] ~= '' then redis.call('SET', request, j.id .. ' ' .. args[4], 'PX', args[5]) end
redis.call('HSET', sweep, 'grid', args[7], 'queue', args[8], 'window', args[9], 'next', int(from), 'watermark', int(from))
enter(j)
-- The old job may have searched all of it, and ended with its last hit.
if from >= num(j.key, 'limit') then advance(j, from) end
-- Many searches are done with the first chunk. Its commit, or the reconciler, calls the others of the fleet.
return reply({'created', unpack(mint(2))})
