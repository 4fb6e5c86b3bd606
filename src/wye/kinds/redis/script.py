"""The two scripts that run inside the server: one reads keys, the other compares and writes them, atomically.

Both share one notion of a key's state, so that a state read from the base, the fork or the target can be compared: its
type, a digest of its content, its expiry. The digest is canonical: it does not depend on how the server stores the
value or in which order it iterates, and it leaves the expiry out (DUMP and DEBUG DIGEST-VALUE fail in one or the
other). Sets, hashes and sorted sets are digested as the sorted digests of their elements: sorting the elements
themselves would depend on the server's locale.

The writing script compares every key with what is expected before it writes any. It may touch several databases, which
a transaction cannot do with conditions. Should a write fail all the same (a payload of a newer version), what was
written before it in the same script is put back, so the outcome is all or nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

ELEMENTS_LIMIT = 200_000
"""Of a list, set, hash, sorted set or stream. A target stands still for about a second while it compares this many."""
STRING_LIMIT_BYTES = 64 << 20
BYTES_PER_ELEMENT = 1000
"""How much of a string takes as long to digest as one element of a set."""
LARGE = "large"
"""The digest of what exceeds these, where the caller asked for a bounded reading."""
DIGEST_LETTERS = 40
ABSENT = "none"
NO_EXPIRY = -1

_LIMITS = (
    f"local STRING_LIMIT_BYTES, ELEMENTS_LIMIT = {STRING_LIMIT_BYTES}, {ELEMENTS_LIMIT}\n"
    f"local BYTES_PER_ELEMENT = {BYTES_PER_ELEMENT}\n"
)

_STATE = """
local function packed(s) return #s .. ':' .. s end

local function folded(list, width)
  local digests = {}
  for i = 1, #list, width do
    local text = packed(list[i])
    for j = i + 1, i + width - 1 do text = text .. packed(list[j]) end
    digests[#digests + 1] = redis.sha1hex(text)
  end
  table.sort(digests)
  return redis.sha1hex(table.concat(digests))
end

local function flat(value, out)
  if type(value) == 'table' then
    out[#out + 1] = '(' .. #value
    for _, item in ipairs(value) do flat(item, out) end
  else
    out[#out + 1] = packed(tostring(value))
  end
end

local function digest_of(value)
  local out = {}
  flat(value, out)
  return redis.sha1hex(table.concat(out))
end

-- Fields of a hash that expire on their own (Redis 7.4, Valkey 9) are part of its content.
local function field_expiries(key, pairs_)
  local found = {}
  for i = 1, #pairs_, 2000 do
    local names = {}
    for j = i, math.min(i + 1999, #pairs_), 2 do names[#names + 1] = pairs_[j] end
    local times = redis.pcall('HPEXPIRETIME', key, 'FIELDS', #names, unpack(names))
    if times.err then return '' end
    for n, time in ipairs(times) do
      if time > 0 then found[#found + 1] = redis.sha1hex(packed(names[n]) .. time) end
    end
  end
  if #found == 0 then return '' end
  table.sort(found)
  return redis.sha1hex(table.concat(found))
end

local function named(list)
  local found = {}
  for i = 1, #list, 2 do found[list[i]] = list[i + 1] end
  return found
end

-- Without what a server counts for itself and forgets or guesses when it loads its files: entries-read, times.
local function stream(key)
  local about = named(redis.call('XINFO', 'STREAM', key))
  local out = {redis.call('XRANGE', key, '-', '+'), about['last-generated-id'],
               about['entries-added'] or 0, about['max-deleted-entry-id'] or ''}
  local groups = {}
  for _, raw in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local group = named(raw)
    local names = {}
    for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', key, group['name'])) do
      names[#names + 1] = redis.sha1hex(named(consumer)['name'])
    end
    table.sort(names)
    local pending = {}
    for _, item in ipairs(redis.call('XPENDING', key, group['name'], '-', '+', 1000000000)) do
      pending[#pending + 1] = {item[1], item[2], item[4]}
    end
    local text = digest_of({group['name'], group['last-delivered-id'], names, pending})
    groups[#groups + 1] = text
  end
  table.sort(groups)
  out[#out + 1] = groups
  return digest_of(out)
end

local LENGTHS = {string = 'STRLEN', list = 'LLEN', hash = 'HLEN', set = 'SCARD', zset = 'ZCARD', stream = 'XLEN'}

-- What a value costs to digest, in elements.
local function work(kind, length) return kind == 'string' and length / BYTES_PER_ELEMENT or length end

-- type, digest, expiry in Unix milliseconds or -1, number of elements (of bytes for a string)
local function state(key, bounded)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return {'none', '', '-1', '0'} end
  local expires = string.format('%.0f', redis.call('PEXPIRETIME', key))
  local length = LENGTHS[kind] and redis.call(LENGTHS[kind], key) or 0
  local digest
  if bounded and length > (kind == 'string' and STRING_LIMIT_BYTES or ELEMENTS_LIMIT) then
    digest = 'large'
  elseif kind == 'string' then
    digest = redis.sha1hex(redis.call('GET', key))
  elseif kind == 'list' then
    digest = digest_of(redis.call('LRANGE', key, 0, -1))
  elseif kind == 'set' then
    digest = folded(redis.call('SMEMBERS', key), 1)
  elseif kind == 'zset' then
    digest = folded(redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'), 2)
  elseif kind == 'hash' then
    local fields = redis.call('HGETALL', key)
    digest = folded(fields, 2) .. field_expiries(key, fields)
  elseif kind == 'stream' then
    digest = stream(key)
  else
    digest = redis.sha1hex(redis.call('DUMP', key))
  end
  return {kind, digest, expires, string.format('%.0f', length)}
end
"""

READ = (
    _LIMITS
    + _STATE
    + """
-- ARGV: database, 1 for a bounded reading; KEYS. Answers with a line per key, at least one; a bounded reading may stop
-- early. One long text, because clients read that much faster than many short ones.
redis.call('SELECT', ARGV[1])
local lines, spent = {}, 0
for n, key in ipairs(KEYS) do
  local found = state(key, ARGV[2] == '1')
  lines[n] = table.concat(found, ' ')
  spent = spent + (found[2] == 'large' and 0 or work(found[1], tonumber(found[4])))
  if ARGV[2] == '1' and spent > ELEMENTS_LIMIT then break end
end
return table.concat(lines, '\\n')
"""
)

SCAN = (
    _LIMITS
    + _STATE
    + """
-- ARGV: database, cursor. Answers {next cursor, text}; in the text per key: its length, a space, its state, a line
-- feed, the key.
redis.call('SELECT', ARGV[1])
local answer = redis.call('SCAN', ARGV[2], 'COUNT', 1000)
local parts = {}
for _, key in ipairs(answer[2]) do
  parts[#parts + 1] = #key .. ' ' .. table.concat(state(key, false), ' ') .. '\\n'
  parts[#parts + 1] = key
end
return {answer[1], table.concat(parts)}
"""
)

WRITE = (
    _LIMITS
    + _STATE
    + """
-- ARGV: number of writes; per write: database, key, type, digest, expiry as expected; operation, new expiry,
-- payload, number of names and values to set, these, number of names to unset, these.
-- Answers {} or, having written nothing, {number of the write, type, digest, expiry, length} per unexpected key.
local at = 1
local function take() at = at + 1; return ARGV[at] end
local function take_many()
  local list = {}
  for n = 1, tonumber(take()) do list[n] = take() end
  return list
end

local writes, unexpected = {}, {}
for n = 1, tonumber(ARGV[1]) do
  local write = {database = take(), key = take(), kind = take(), digest = take(), expires = take(),
                 operation = take(), expiry = take(), payload = take(), set = take_many(), unset = take_many()}
  writes[n] = write
  redis.call('SELECT', write.database)
  local now = state(write.key, true)
  if now[1] ~= write.kind or now[2] ~= write.digest or now[3] ~= write.expires then
    unexpected[#unexpected + 1] = {n, now[1], now[2], now[3], now[4]}
  end
end
if #unexpected > 0 then return unexpected end

local function all(command, write, list)
  for i = 1, #list, 1000 do
    local some = {}
    for j = i, math.min(i + 999, #list) do some[#some + 1] = list[j] end
    local done = redis.pcall(command, write.key, unpack(some))
    if type(done) == 'table' and done.err then return done end
  end
end

local function expire(write)
  if write.expiry == '-1' then return redis.pcall('PERSIST', write.key) end
  return redis.pcall('PEXPIREAT', write.key, write.expiry)
end

local function fields(write)
  local adds = {hash = 'HSET', set = 'SADD', zset = 'ZADD'}
  local removes = {hash = 'HDEL', set = 'SREM', zset = 'ZREM'}
  local failed = all(adds[write.kind], write, write.set) or all(removes[write.kind], write, write.unset)
  return failed or expire(write)
end

local function carry_out(write)
  redis.call('SELECT', write.database)
  if write.operation == 'restore' then
    local expiry = write.expiry == '-1' and '0' or write.expiry
    return redis.pcall('RESTORE', write.key, expiry, write.payload, 'REPLACE', 'ABSTTL')
  elseif write.operation == 'delete' then
    return redis.pcall('UNLINK', write.key)
  elseif write.operation == 'fields' then
    return fields(write)
  end
  return expire(write)
end

local function put_back(write)
  redis.call('SELECT', write.database)
  if write.was then
    local expiry = write.expires == '-1' and '0' or write.expires
    redis.call('RESTORE', write.key, expiry, write.was, 'REPLACE', 'ABSTTL')
  else
    redis.call('UNLINK', write.key)
  end
end

for n, write in ipairs(writes) do
  redis.call('SELECT', write.database)
  write.was = redis.call('DUMP', write.key)
  local done = carry_out(write)
  if type(done) == 'table' and done.err then
    for m = n, 1, -1 do put_back(writes[m]) end
    return redis.error_reply('WYE write ' .. n .. ' failed: ' .. done.err)
  end
end
return {}
"""
)


def elements_digest(elements: Iterable[tuple[bytes, ...]]) -> str:
    """What the scripts give as the digest of a set (a member each), hash (field, value) or sorted set (member, score),
    as long as no field expires on its own."""
    digests = sorted(
        hashlib.sha1(b"".join(b"%d:%b" % (len(part), part) for part in element), usedforsecurity=False).hexdigest()
        for element in elements
    )
    return hashlib.sha1("".join(digests).encode(), usedforsecurity=False).hexdigest()
