-- release ends an attempt without a result: its worker has stopped computing. The last one to do so ends a job that
-- is to stop.
--
-- KEYS  as in prelude.lua for the jobs of the attempt
-- args  1 attempt, 2 "1" if the attempt died of its chunk
-- Returns {"done", ticket...}
local attempt = args[1]
local record, poison = give_back(attempt, args[2] == '1' and 'chunk' or 'none')
if not record then -- it was this call, or it has ended otherwise, or there never was one
  if args[2] ~= '1' then lost(attempt) end
  return {'done', unpack(answered(attempt, {RELEASED = true, DIED = true}) or {})}
end
if poison then fail(poison) end
for _, j in ipairs(jobs) do settle(j) end
local minted = mint()
conclude(attempt, record, args[2] == '1' and 'DIED' or 'RELEASED', ':' .. table.concat(minted, ','))
return reply({'done', unpack(minted)})
