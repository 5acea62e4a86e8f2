-- reconcile brings a sweep and its jobs to where they should be, whatever was lost on the way: it stops jobs that are
-- orphaned or over their time, gives back chunks whose leases have run out, ends jobs that nothing runs for any
-- more, logs what waits below the watermark, and calls for workers.
--
-- KEYS  as in prelude.lua for the jobs of a sweep, then presence as in lead.lua
-- args  1 window, 2 name of this call
-- Returns {queue, query, ticket...}  to be put into the queue, if they are not there | {}
local function calling(due)
  local query = string.match(redis.call('HGET', queries, redis.call('ZRANGE', limits, 0, 0)[1]), '^%d+:[^:]*:(.*)$')
  return reply({redis.call('HGET', sweep, 'queue'), query, unpack(due)})
end

-- The same call again, after its reply was lost: those tickets are not due again before RECHECK has passed.
local name, told = string.match(redis.call('HGET', sweep, 'told') or '', '^(%S+) (.*)$')
if name == args[2] and horizon() > 0 then
  local due = {}
  for ticket in string.gmatch(told, '%d+') do due[#due + 1] = ticket end
  return calling(due)
end

-- After an absence of Redis, or of the process that has everything in it, watchers get the time to come back. That a
-- leader died is none: then the others went on to ask for its place, and front ends to attend.
local seen, presence = num(sweep, 'seen'), KEYS[#KEYS]
local absent = seen > 0 and now - seen > ABSENCE and (num(presence, 'back') >= seen or now - num(presence, 'called') > ABSENCE)
for _, j in ipairs(jobs) do
  local s = state(j)
  if not s then
    redis.call('ZREM', live, j.id)
  elseif s == 'PENDING' or s == 'RUNNING' then
    local start, wall, orphan = num(j.key, 'start'), num(j.key, 'max_wall'), num(j.key, 'orphan')
    if wall > 0 and start > 0 and not pausing(j) and now >= start + wall + num(j.key, 'paused_for') - num(j.key, 'carried') then
      order_stop(j, 'EXHAUSTED', 'DURATION_EXHAUSTED')
    elseif orphan > 0 and (absent or orphan > now + ORPHAN) then -- or the clock was set back
      redis.call('HSET', j.key, 'orphan', int(now + ORPHAN))
    elseif orphan > 0 and now >= orphan then
      order_stop(j, 'CANCELLED', 'ORPHANED')
    end
  end
end
if redis.call('EXISTS', sweep) == 0 then return reply({}) end
redis.call('HSET', sweep, 'seen', int(now))
-- What was timed before the clock was set back would wait for as long as it was set back.
for key, most in pairs({[leases] = LEASE, [tickets] = RECHECK}) do
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. int(now + most), '+inf')) do
    redis.call('ZADD', key, 'XX', int(now + most), member)
  end
end
expire()
for _, j in ipairs(jobs) do
  settle(j)
  if state(j) == 'RUNNING' then
    advance(j, num(sweep, 'watermark'))
    progress(j)
  end
end
if redis.call('ZCARD', limits) == 0 then return reply({}) end
redis.call('HSET', sweep, 'window', args[1])
local due = mint()
for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', tickets, '-inf', int(now))) do
  redis.call('ZADD', tickets, int(now + RECHECK), ticket)
  due[#due + 1] = ticket
end
redis.call('HSET', sweep, 'told', args[2] .. ' ' .. table.concat(due, ','))
return calling(due)
