-- schema tells of which schema the data are. Data of none, which may be no data at all, become of this one.
--
-- KEYS  1 schema (string)
-- ARGV  1 schema of this process
-- Returns the schema
local stored = redis.call('GET', KEYS[1])
if stored then return stored end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
