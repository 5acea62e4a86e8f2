-- release ends an attempt without a result: its worker has stopped computing. The last one to do so ends a job that
-- is to stop.
--
-- KEYS  as in prelude.lua for the jobs of the attempt
-- args  1 attempt, 2 "1" if the attempt died of its chunk
-- Returns {"done", ticket...}
local record, poison = give_back(args[1], args[2] == '1')
if poison then fail(poison) end
for _, j in ipairs(jobs) do settle(j) end
local minted = mint()
if record then
  conclude(args[1], record, args[2] == '1' and 'DIED' or 'RELEASED', '0:' .. table.concat(minted, ','))
end
return reply({'done', unpack(minted)})
