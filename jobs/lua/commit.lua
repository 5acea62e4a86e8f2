-- commit finishes a chunk: the first attempt to do so wins. It stages the attempt's last hits, moves the watermark
-- over all finished chunks that follow on it, and lets the hits below it leave.
--
-- KEYS  as in prelude.lua for the jobs of the attempt
-- args  1 attempt, then for each job: number of hits, hits as "<index>:<distance>:<1 if ideal>"
-- Returns {"done", "1" if more hits wait to be logged, ticket...} | {"lost"}  another has, and this changed nothing
local attempt = args[1]
if not redis.call('ZSCORE', leases, attempt) then
  local again = answered(attempt, {COMMITTED = true})
  if again then return {'done', unpack(again)} end
  return lost(attempt)
end
local record = redis.call('HGET', attempts, attempt)
local lo, hi = parse(record)
redis.call('ZREM', leases, attempt)
redis.call('HDEL', attempts, attempt)
if finished(lo, hi) then
  conclude(attempt, record, 'STALE')
  for _, j in ipairs(jobs) do settle(j) end
  return reply({'lost'})
end
-- A copy that still runs is told to look: its next renewal says stop.
if held(lo) then for _, j in ipairs(jobs) do poke[j.id] = poke[j.id] or '' end end
redis.call('HDEL', deaths, int(lo), 'alone:' .. attempt)

local chunk = int(lo) .. ':' .. int(hi)
redis.call('ZREM', retry, chunk)
local watermark = num(sweep, 'watermark')
redis.call('ZADD', done, int(lo), chunk)
while true do
  local first = redis.call('ZRANGE', done, 0, 0)[1]
  if not first then break end
  local from, to = parse(first)
  if from ~= watermark then break end
  redis.call('ZREM', done, first)
  watermark = to
end
redis.call('HSET', sweep, 'watermark', int(watermark))

local at, more = 2, false
for _, j in ipairs(jobs) do
  local count = tonumber(args[at])
  if state(j) == 'RUNNING' then
    stage(j, at + 1, at + count)
    local begin, since = num(j.key, 'start'), num(j.key, 'rate_at')
    local counted = redis.call('HINCRBY', j.key, 'rate_count', int(math.max(0, math.min(hi, num(j.key, 'limit')) - lo)))
    -- The rate is a mean over the last seconds; before there is one, over the job's life.
    local rate = num(j.key, 'rate')
    if now - since >= 1000 then
      local latest = counted * 1000 / (now - since)
      if since > begin then latest = (rate + latest) / 2 end
      redis.call('HSET', j.key, 'rate', int(latest), 'rate_at', int(now), 'rate_count', '0')
    elseif since == begin then
      redis.call('HSET', j.key, 'rate', int(counted * 1000 / math.max(1, now - begin)))
    end
    if advance(j, watermark) then more = true end
    progress(j)
  end
  settle(j)
  at = at + 1 + count
end
local minted = mint()
conclude(attempt, record, 'COMMITTED', (more and '1:' or '0:') .. table.concat(minted, ','))
return reply({'done', more and '1' or '0', unpack(minted)})
