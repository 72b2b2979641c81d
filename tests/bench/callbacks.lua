-- Posts each line's callback once: "<path> <task id at the provider>"; wraps around at the end of the list.
local lines, bodies = {}, {}
local head, tail
local next_line = 0

function init(args)
  local list = io.open(args[1])
  for line in list:lines() do
    local path, id = line:match("(%S+) (%S+)")
    lines[#lines + 1] = path
    bodies[#bodies + 1] = id
  end
  list:close()
  local template = io.open(args[2]):read("*a")
  local at, to = template:find("REMOTE_ID", 1, true)
  head, tail = template:sub(1, at - 1), template:sub(to + 1)
end

function request()
  next_line = next_line % #lines + 1
  return wrk.format("POST", lines[next_line], {["Content-Type"] = "application/json"},
    head .. bodies[next_line] .. tail)
end

function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format("\nRESULT %d %d %d %d %d\n", summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
