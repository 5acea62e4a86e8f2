-- list pages through a tenant's jobs, the newest first, and forgets those whose time has expired.
--
-- KEYS  1 tenant's index of jobs, 2 ... hashes of jobs that the caller found missing
-- ARGV  1 id after which to go on, or "", 2 number of ids wanted, 3 ... the ids of those jobs
-- Returns {id...}
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('ZREM', KEYS[1], ARGV[i + 1]) end
end
local from = ARGV[1] == '' and '+' or '(' .. ARGV[1]
return redis.call('ZREVRANGEBYLEX', KEYS[1], from, '-', 'LIMIT', 0, ARGV[2])
