-- flush stages hits of an attempt that still runs, and lets those leave that may: when its chunk is the one at
-- the watermark, everything below "upto" is searched.
--
-- KEYS  as in prelude.lua for the jobs of the attempt
-- args  1 attempt, 2 upto, then for each job: number of hits, hits as "<index>:<distance>:<1 if ideal>"
-- Returns {"held"} | {"stop"}  nobody wants them: release | {"lost"}  it is another's
if horizon() == 0 then return {'stop'} end
if not redis.call('ZSCORE', leases, args[1]) then return lost(args[1]) end
redis.call('ZADD', leases, int(now + LEASE), args[1])
local at_watermark = parse(redis.call('HGET', attempts, args[1])) == num(sweep, 'watermark')
local upto, at = tonumber(args[2]), 3
for _, j in ipairs(jobs) do
  local count = tonumber(args[at])
  if state(j) == 'RUNNING' then
    stage(j, at + 1, at + count)
    if at_watermark then advance(j, upto) end
  end
  at = at + 1 + count
end
return reply({horizon() == 0 and 'stop' or 'held'}) -- it may have brought the end of the last job
