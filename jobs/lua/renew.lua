-- renew extends the lease of an attempt.
--
-- KEYS  as in prelude.lua for the jobs of the attempt
-- args  1 attempt, 2 "1" if its worker searches nothing else
-- Returns {"held", end of what still matters} | {"stop"}  nothing does: release | {"lost"}  it is another's
local stop = horizon()
if stop == 0 then return {'stop'} end
if not redis.call('ZSCORE', leases, args[1]) then return lost(args[1]) end
local lo, hi = parse(redis.call('HGET', attempts, args[1]))
redis.call('ZADD', leases, int(now + LEASE), args[1])
if args[2] == '1' then redis.call('HSET', deaths, 'alone:' .. args[1], 1) end
if lo >= stop or finished(lo, hi) then return {'stop'} end
return {'held', int(stop)}
