-- claim turns a ticket into a lease on a chunk: one that was given back, else the next one, else a copy of one that
-- takes long.
--
-- KEYS  as in prelude.lua for the jobs that the caller takes to be members
-- args  1 attempt (new for each claim; the same again only when its reply was lost), 2 ticket, 3 worker,
--       4 longest chunk wanted (a power of two)
-- Returns {"chunk", lo, hi, then for each member: id, limit, query record; then how many attempts of the chunk have died}
--       | {"members", id...}  the members are these: call again
--       | {"idle"}            there is nothing to do, or the ticket was used
local attempt, ticket, worker, want = args[1], args[2], args[3], tonumber(args[4])

local function grant(lo, hi)
  local result = {'chunk', int(lo), int(hi)}
  for _, j in ipairs(jobs) do
    result[#result + 1] = j.id
    result[#result + 1] = int(score(redis.call('ZSCORE', limits, j.id)))
    result[#result + 1] = redis.call('HGET', queries, j.id)
  end
  result[#result + 1] = int(num(deaths, int(lo)))
  return reply(result)
end

local members = redis.call('ZRANGE', limits, 0, -1)
if #members == 0 then
  -- The same call again, after its reply was lost: nobody wants the chunk any more, and its caller will not know of it.
  local record = give_back(attempt, 'none')
  if record then
    conclude(attempt, record, 'RELEASED')
    for _, j in ipairs(jobs) do settle(j) end
  end
  return reply({'idle'})
end
local known = {}
for _, j in ipairs(jobs) do known[j.id] = true end
local same = #members == #jobs
for _, id in ipairs(members) do same = same and known[id] end
if not same then return {'members', unpack(members)} end

local record = redis.call('HGET', attempts, attempt)
if record then return grant(parse(record)) end
if redis.call('ZREM', tickets, ticket) == 0 then return {'idle'} end

expire()
local stop = horizon() -- 0 when the sweep has just failed
redis.call('ZREMRANGEBYSCORE', retry, int(stop), '+inf')

-- next_chunk cuts the next chunk of the grid. Its length is a power of two that divides its offset within its part
-- of the grid, so that every sweep of the space has the same chunks to choose from. It is at most what lies behind, so
-- that the first ones are quick. When others search too it is, down to a sixteenth, at most the claimant's share of what is
-- left, so that they end together: guided self-scheduling (Polychronopoulos and Kuck, 1987).
-- A sweep that begins off the grid begins with what is left of a smallest chunk.
local function next_chunk(lo)
  local base, top = 0, nil
  for bound in string.gmatch(redis.call('HGET', sweep, 'grid'), '%d+') do
    bound = tonumber(bound)
    if bound <= lo then base = bound else top = bound break end
  end
  if base == 0 then return top end
  local length = math.max(want, MIN_CHUNK)
  local least = math.max(length / 16, MIN_CHUNK)
  local others = redis.call('ZCARD', leases)
  local share = (stop - lo) / (others + 1)
  while others > 0 and length > least and length > share do length = length / 2 end
  while length > MIN_CHUNK and (length > lo or (lo - base) % length ~= 0) do length = length / 2 end
  local hi = lo + length - (lo - base) % length
  if top and hi > top then hi = top end
  return hi
end

local lo, hi, again
local chunk = redis.call('ZRANGE', retry, 0, 0)[1]
if chunk then
  redis.call('ZREM', retry, chunk)
  lo, hi = parse(chunk)
  again = true
elseif num(sweep, 'next') < stop then
  lo = num(sweep, 'next')
  hi = next_chunk(lo)
  redis.call('HSET', sweep, 'next', int(hi))
else
  chunk = straggler()
  if not chunk then return reply({'idle'}) end
  lo, hi = parse(chunk)
  again = true
end

redis.call('ZADD', leases, int(now + LEASE), attempt)
redis.call('HSET', attempts, attempt, int(lo) .. ':' .. int(hi) .. ':' .. int(now) .. ':' .. ticket .. ':' .. worker)
for _, j in ipairs(jobs) do
  if state(j) == 'PENDING' then
    redis.call('HSET', j.key, 'state', 'RUNNING', 'start', int(now), 'rate_at', int(now))
    change(j, 'RUNNING')
    redis.call('HINCRBY', j.key, 'revision', 1)
  end
  if again then
    redis.call('HINCRBY', j.key, 'redone', int(math.max(0, math.min(hi, num(j.key, 'limit')) - lo)))
  end
end
return grant(lo, hi)
