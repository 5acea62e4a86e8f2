-- drain logs more of the hits that wait below the watermark.
--
-- KEYS  as in prelude.lua for the jobs of a sweep
-- Returns {"1" if there are still more}
local more = false
for _, j in ipairs(jobs) do
  if state(j) == 'RUNNING' and advance(j, num(sweep, 'watermark')) then more = true end
end
return reply({more and '1' or '0'})
