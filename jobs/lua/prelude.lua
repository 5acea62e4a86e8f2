-- prelude.lua is put before each script that changes a sweep or its jobs. It binds the keys and holds what
-- several transitions share. Nothing in it runs by itself but the reading of the clock.
--
-- KEYS  1 live      zset  jobs of the pool that have not ended, by creation time
--       2 active    hash  tenant -> number of those
--       3 sweep     hash  grid, queue, next, watermark, window, ticket_seq, seen
--       4 queries   hash  member job -> "<max hits>:<profile>:<query>"
--       5 limits    zset  member job -> end of what still matters to it (exclusive)
--       6 leases    zset  attempt -> time at which its lease runs out
--       7 attempts  hash  attempt -> "<lo>:<hi>:<begin>:<ticket>:<worker>"
--       8 done      zset  finished chunks ahead of the watermark, "<lo>:<hi>" by lo
--       9 retry     zset  chunks that were given back, "<lo>:<hi>" by lo
--      10 deaths    hash  lo -> how many attempts of the chunk have died; "alone:<attempt>" -> 1 while its worker searches
--                         nothing else
--      11 tickets   zset  tickets that no worker has used, by the time of the next look at them
--      12 ...       for each job: its hash, pending (zset of hits that may not leave yet, by index), log
--                   (stream of its events), stop (the cancel key), changes (list of its states, "<ms> <state> <reason>"),
--                   trail (list of its attempts that have ended, "<outcome> <lo> <hi> <begin> <end> <answer> <worker> <attempt>")
-- ARGV  1 number of jobs, 2 ... their ids, then the arguments of the script (args)
--
-- Indexes are below 2^53, so that they are exact as Lua numbers and as scores.
local live, active, sweep, queries, limits = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local leases, attempts, done, retry, deaths, tickets = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]

local LEASE = 3000        -- ms that an attempt is held without being renewed
local ORPHAN = 9500       -- ms that an attached job lives without a watcher: ten seconds, less what the reconciler takes to come by
local ABSENCE = 3000      -- ms without any process after which nobody could have attended either
local MAX_DEATHS = 3      -- a chunk that killed so many attempts is poison
local STRAGGLER = 2000    -- ms after which a chunk may be given to a second worker; to each further one, four times as long after the one before
local RECHECK = 2000      -- ms after which a ticket that nobody used is looked after
local BATCH = 1000        -- hits that one script moves at most: about 5 ms of Redis's time
local PUBLISHED = 200     -- hits that one message carries at most; beyond that watchers read the log
local RETRIED = 10000     -- ms within which a call may come again; the client gives up after half of that
local MIN_CHUNK = 65536
local NOTES = 512         -- entries of the changes, and of the trail, of a job at most;
local FEWER = 448         -- as many are left when the oldest are dropped

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local jobs, args = {}, {}
for i = 1, tonumber(ARGV[1]) do
  local k = 11 + 6 * (i - 1)
  jobs[i] = {id = ARGV[i + 1], key = KEYS[k + 1], pending = KEYS[k + 2], log = KEYS[k + 3], stop = KEYS[k + 4],
    changes = KEYS[k + 5], trail = KEYS[k + 6], out = {}}
end
for i = #jobs + 2, #ARGV do args[#args + 1] = ARGV[i] end

local poke = {} -- jobs whose workers should look at their leases now: '', or ' stop' when all that they do for it is in vain

-- int writes a whole number in full, which tostring does not do above 10^14.
local function int(n) return string.format('%.0f', n) end

local function num(key, field) return tonumber(redis.call('HGET', key, field) or 0) end

local function state(j) return redis.call('HGET', j.key, 'state') end

-- A pause is a mark beside the state, so that whoever does not know of it still does right by the job: "pause" is the
-- time of the order, "paused" that at which nothing ran any more. A job that is paused is no member of its sweep.
local function pausing(j) return redis.call('HEXISTS', j.key, 'pause') == 1 end

local function parse(chunk)
  local lo, hi = string.match(chunk, '^(%d+):(%d+)')
  return tonumber(lo), tonumber(hi)
end

-- score reads a score. miniredis writes 10^8 as "1e+08", which its Lua reads only as "1.0e+08".
local function score(text) return tonumber((string.gsub(text, '^(%d)e', '%1.0e'))) end

-- horizon is the end of what still matters to any member of the sweep.
local function horizon()
  local top = redis.call('ZREVRANGE', limits, 0, 0, 'WITHSCORES')
  return score(top[2] or '0')
end

-- emit appends an event to the log of j, with the next sequence number.
local function emit(j, event)
  local seq = redis.call('HINCRBY', j.key, 'seq', 1)
  redis.call('XADD', j.log, seq .. '-0', 'e', event)
  j.out[#j.out + 1] = seq .. ' ' .. event
  j.last = seq
end

-- note appends a line to one of the lists that tell what has happened to j. What is dropped is counted.
local function note(j, list, dropped, line)
  local count = redis.call('RPUSH', list, line)
  if count > NOTES then
    redis.call('LTRIM', list, -FEWER, -1)
    redis.call('HINCRBY', j.key, dropped, count - FEWER)
  end
  if j.ended and count == 1 then redis.call('PEXPIRE', list, int(num(j.key, 'retention'))) end
end

-- change notes that j is in another state.
local function change(j, to, reason)
  note(j, j.changes, 'changes_dropped', int(now) .. ' ' .. to .. ' ' .. (reason or '-'))
end

-- conclude notes for each of the jobs how an attempt has ended. answer is what its worker is told beyond that: "<1 if
-- there is more>:<ticket>,<ticket>...", of a release without the first.
local function conclude(attempt, record, outcome, answer)
  local lo, hi, begin, worker = string.match(record, '^(%d+):(%d+):(%d+):[^:]*:(.*)$')
  local line = table.concat({outcome, lo, hi, begin, int(now), answer or '-', worker, attempt}, ' ')
  for _, j in ipairs(jobs) do note(j, j.trail, 'trail_dropped', line) end
end

-- answered returns the words that the worker of an attempt was told when it ended with one of the outcomes: for the same
-- call again, after its reply was lost. nil if it did not end so, or too long ago.
local function answered(attempt, outcomes)
  local tail = ' ' .. attempt
  local lines = redis.call('LRANGE', jobs[1].trail, 0, -1)
  for i = #lines, 1, -1 do
    if string.sub(lines[i], -#tail) == tail then
      local outcome, answer = string.match(lines[i], '^(%S+) %S+ %S+ %S+ %S+ (%S+)')
      if not outcomes[outcome] then return nil end
      local words = {}
      for word in string.gmatch(answer, '[^:,]+') do words[#words + 1] = word end
      return words
    end
  end
end

-- leave takes j out of its sweep: from here on no chunk is searched for it.
local function leave(j)
  redis.call('HDEL', queries, j.id)
  redis.call('ZREM', limits, j.id)
  poke[j.id] = ' stop'
end

-- enter makes j a member of its sweep.
local function enter(j)
  local spec = redis.call('HMGET', j.key, 'max_hits', 'profile', 'query', 'limit')
  redis.call('HSET', queries, j.id, spec[1] .. ':' .. spec[2] .. ':' .. spec[3])
  redis.call('ZADD', limits, spec[4], j.id)
end

-- unpause takes the mark of a pause away, and counts how long it was since the order. What passes before a worker has
-- begun counts against nothing anyway.
local function unpause(j)
  local since = num(j.key, 'pause')
  if since == 0 then return end
  if num(j.key, 'start') > 0 then redis.call('HINCRBY', j.key, 'paused_for', int(math.max(0, now - since))) end
  redis.call('HDEL', j.key, 'pause', 'paused')
end

-- finish brings j to its one terminal state.
local function finish(j, final, reason)
  unpause(j)
  local retention, stop = num(j.key, 'retention'), num(j.key, 'stop')
  redis.call('HSET', j.key, 'state', final, 'reason', reason, 'end', int(now), 'expire', int(now + retention))
  if stop > 0 then redis.call('HSET', j.key, 'stop_latency', int(math.max(0, now - stop))) end -- the clock may have been set back
  redis.call('HINCRBY', j.key, 'revision', 1)
  emit(j, 'end ' .. final .. ' ' .. reason)
  change(j, final, reason)
  j.ended = true
  if redis.call('ZREM', live, j.id) == 1 then
    local tenant = redis.call('HGET', j.key, 'tenant')
    if redis.call('HINCRBY', active, tenant, -1) <= 0 then redis.call('HDEL', active, tenant) end
  end
  redis.call('SET', j.stop, reason .. ' ' .. int(now), 'PX', int(retention))
  redis.call('DEL', j.pending)
  redis.call('PEXPIRE', j.key, int(retention))
  redis.call('PEXPIRE', j.log, int(retention))
  redis.call('PEXPIRE', j.changes, int(retention))
  redis.call('PEXPIRE', j.trail, int(retention))
  leave(j)
  -- A sweep ends with its last member. What its leases still compute is fenced by their absence.
  if redis.call('ZCARD', limits) == 0 then
    local left = redis.call('HGETALL', attempts)
    for i = 1, #left, 2 do conclude(left[i], left[i + 1], 'FENCED') end
    redis.call('DEL', sweep, queries, leases, attempts, done, retry, deaths, tickets)
  end
end

-- fail ends every job of a sweep that cannot be searched.
local function fail(chunk)
  for _, j in ipairs(jobs) do
    local s = state(j)
    if s == 'PENDING' or s == 'RUNNING' then
      redis.call('HSET', j.key, 'poison', chunk)
      finish(j, 'FAILED', 'POISONED')
    end
  end
end

-- order_stop writes the cancel key. The job ends when nothing runs for it any more (see settle).
local function order_stop(j, final, reason)
  unpause(j)
  redis.call('HSET', j.key, 'state', 'CANCELLING', 'reason', reason, 'final', final, 'stop', int(now))
  redis.call('HINCRBY', j.key, 'revision', 1)
  redis.call('SET', j.stop, reason .. ' ' .. int(now))
  change(j, 'CANCELLING', reason)
  leave(j)
end

-- settle ends j if it is to stop and every attempt was released or fenced, or confirms that it is paused. A sweep has
-- one job, so that every attempt of the sweep counts.
local function settle(j)
  if redis.call('ZCARD', leases) > 0 then return end
  local mark = redis.call('HMGET', j.key, 'state', 'final', 'reason', 'pause', 'paused')
  if mark[1] == 'CANCELLING' then
    finish(j, mark[2], mark[3])
  elseif mark[4] and not mark[5] then
    redis.call('HSET', j.key, 'paused', int(now))
    redis.call('HINCRBY', j.key, 'revision', 1)
    change(j, 'PAUSED')
  end
end

-- lower moves the limit of j down to n.
local function lower(j, n)
  if n < num(j.key, 'limit') then
    redis.call('HSET', j.key, 'limit', int(n))
    redis.call('ZADD', limits, 'XX', int(n), j.id)
    poke[j.id] = poke[j.id] or ''
  end
end

-- stage adds the hits args[from] to args[to], each "<index>:<distance>:<1 if ideal>", to what j may log later.
-- Those below its searched mark were staged before, by an attempt that this one repeats. Adding twice changes nothing.
local function stage(j, from, to)
  local searched, limit = num(j.key, 'searched'), num(j.key, 'limit')
  for i = from, to do
    local index, ideal = string.match(args[i], '^(%d+):%d+:(%d)$')
    index = tonumber(index)
    if index >= searched and index < limit then
      redis.call('ZADD', j.pending, int(index), args[i])
      if ideal == '1' then
        limit = index + 1
        lower(j, limit)
      end
    end
  end
  -- Only the lowest hits that the budget has room for can ever be logged, so nothing beyond them matters.
  local room = num(j.key, 'max_hits') - num(j.key, 'hits')
  local last = redis.call('ZRANGE', j.pending, room - 1, room - 1, 'WITHSCORES')
  if last[2] then lower(j, score(last[2]) + 1) end
  redis.call('ZREMRANGEBYSCORE', j.pending, int(num(j.key, 'limit')), '+inf')
end

-- advance moves the searched mark of j up to w, logs the hits below it, and ends j at its limit. It moves BATCH
-- hits at most and returns true when there are more.
local function advance(j, w)
  local limit, searched = num(j.key, 'limit'), num(j.key, 'searched')
  if w > limit then w = limit end
  if w < searched then w = searched end
  local hits = redis.call('ZRANGEBYSCORE', j.pending, '-inf', '(' .. int(w), 'LIMIT', 0, BATCH)
  local best, last = tonumber(redis.call('HGET', j.key, 'best_distance') or 1000), nil
  for _, hit in ipairs(hits) do
    local index, distance, ideal = string.match(hit, '^(%d+):(%d+):(%d)$')
    emit(j, 'hit ' .. index .. ' ' .. distance .. ' ' .. ideal)
    if tonumber(distance) < best then
      best = tonumber(distance)
      redis.call('HSET', j.key, 'best_index', index, 'best_distance', distance)
    end
    if ideal == '1' then redis.call('HSET', j.key, 'answer_index', index, 'answer_distance', distance) end
    last = tonumber(index)
  end
  if last then
    redis.call('ZREMRANGEBYRANK', j.pending, 0, #hits - 1)
    redis.call('HINCRBY', j.key, 'hits', #hits)
  end
  local more = redis.call('ZCOUNT', j.pending, '-inf', '(' .. int(w)) > 0
  if more then w = last + 1 end
  redis.call('HSET', j.key, 'searched', int(w))
  if not more and w >= limit then
    if redis.call('HEXISTS', j.key, 'answer_index') == 1 then
      finish(j, 'SUCCEEDED', 'FOUND')
    elseif num(j.key, 'hits') >= num(j.key, 'max_hits') then
      finish(j, 'EXHAUSTED', 'HITS_EXHAUSTED')
    else
      finish(j, 'EXHAUSTED', 'CANDIDATES_EXHAUSTED')
    end
  end
  return more
end

-- progress puts how far j is into the message that its watchers get.
local function progress(j)
  if j.ended then return end
  local searched, claimed = num(j.key, 'searched'), math.min(num(sweep, 'next'), num(j.key, 'limit'))
  j.out[#j.out + 1] = '0 progress ' .. int(searched) .. ' ' .. int(math.max(0, claimed - searched)) .. ' ' ..
    int(num(j.key, 'redone')) .. ' ' .. int(num(j.key, 'rate')) .. ' ' .. int(now)
end

-- finished tells whether a chunk was committed.
local function finished(lo, hi)
  return lo < num(sweep, 'watermark') or redis.call('ZSCORE', done, int(lo) .. ':' .. int(hi))
end

-- held tells whether an attempt has the chunk that begins at lo.
local function held(lo)
  for _, record in ipairs(redis.call('HVALS', attempts)) do
    if parse(record) == lo then return true end
  end
  return false
end

-- give_back ends an attempt without a result and lets its chunk be claimed again. blame: "none", "worker" when that was not
-- heard of any more, "chunk" when that is known to be the cause. A worker that dies takes all its chunks with it; so for the
-- last death that a chunk may have, it must have been alone. Returns the attempt's record, nil if there is no such attempt,
-- the chunk when it has died too often, and whether this death counts.
local function give_back(attempt, blame)
  local record = redis.call('HGET', attempts, attempt)
  redis.call('ZREM', leases, attempt)
  redis.call('HDEL', attempts, attempt)
  local alone = redis.call('HDEL', deaths, 'alone:' .. attempt) == 1
  if not record then return nil end
  local lo, hi = parse(record)
  local chunk = int(lo) .. ':' .. int(hi)
  local count = num(deaths, int(lo))
  local counts = blame == 'chunk' or blame == 'worker' and (alone or count < MAX_DEATHS - 1)
  if counts then count = redis.call('HINCRBY', deaths, int(lo), 1) end
  if not finished(lo, hi) and not held(lo) then
    redis.call('ZADD', retry, int(lo), chunk)
  end
  return record, counts and count >= MAX_DEATHS and chunk or nil, counts
end

-- expire gives back the chunks of all leases that have run out. Fails the sweep when one of them is poison.
local function expire()
  for _, attempt in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', '(' .. int(now))) do
    local record, poison, counts = give_back(attempt, 'worker')
    if record then conclude(attempt, record, 'EXPIRED', counts and 'counted' or '-') end
    if poison then return fail(poison) end
  end
end

-- lost is the answer to an attempt that has no lease any more. If that ran out, the chunk was taken to have killed the worker.
-- It has not: the worker was stopped, or cut off, or the clock was set forward. So that death is taken back.
local function lost(attempt)
  local tail = ' ' .. attempt
  local lines = redis.call('HLEN', deaths) > 0 and redis.call('LRANGE', jobs[1].trail, 0, -1) or {}
  for i = #lines, 1, -1 do
    if string.sub(lines[i], -#tail) == tail then
      local lo = string.match(lines[i], '^EXPIRED (%d+) %d+ %d+ %d+ counted ')
      if lo and num(deaths, lo) > 0 then
        redis.call('LSET', jobs[1].trail, i - 1, (string.gsub(lines[i], ' counted ', ' - ', 1)))
        redis.call('HINCRBY', deaths, lo, -1)
      end
      break
    end
  end
  return {'lost'}
end

-- straggler returns a chunk of which all attempts have been there for long, when there is nothing else to do: each copy
-- is given four times as long as the one before, so that a chunk ends although several of them hang. A chunk whose copy was
-- committed first is finished, although its dead worker's lease goes on for a while.
local function straggler()
  -- The keys are strings: miniredis's Lua fills up an array to a key that is a number of millions.
  local all, patience, latest = redis.call('HVALS', attempts), {}, {}
  local function begin_of(record) return tonumber(string.match(record, '^%d+:%d+:(%d+)')) end
  for _, record in ipairs(all) do
    local lo = string.match(record, '^%d+')
    patience[lo] = patience[lo] and 4 * patience[lo] or STRAGGLER
    latest[lo] = math.max(latest[lo] or 0, begin_of(record))
  end
  local first, since, stop = nil, now, horizon()
  for _, record in ipairs(all) do
    local lo, hi = parse(record)
    local begin, key = begin_of(record), int(lo)
    if begin < since and lo < stop and latest[key] < now - patience[key] and not finished(lo, hi) then
      first, since = key .. ':' .. int(hi), begin
    end
  end
  return first
end

-- mint makes new tickets, most at most, until as many workers are called as the window allows and the work wants.
-- Returns their numbers.
local function mint(most)
  local minted = {}
  local waiting, running = redis.call('ZCARD', tickets), redis.call('ZCARD', leases)
  local room = num(sweep, 'window') - waiting - running
  local stop = horizon()
  if stop == 0 then return minted end
  if num(sweep, 'next') >= stop then
    local work = redis.call('ZCOUNT', retry, '-inf', '(' .. int(stop))
    if work == 0 and straggler() then work = 1 end
    room = math.min(room, work - waiting)
  end
  for _ = 1, math.min(room, most or BATCH) do
    local n = redis.call('HINCRBY', sweep, 'ticket_seq', 1)
    redis.call('ZADD', tickets, int(now + RECHECK), n)
    minted[#minted + 1] = tostring(n)
  end
  return minted
end

-- reply publishes what has happened and returns the script's result.
local function reply(result)
  for _, j in ipairs(jobs) do
    if j.last and #j.out > PUBLISHED then j.out = {j.last .. ' skipped'} end
    if #j.out > 0 then redis.call('PUBLISH', j.log, table.concat(j.out, '\n')) end
  end
  for id, word in pairs(poke) do redis.call('PUBLISH', live .. ':control', id .. word) end
  return result
end
