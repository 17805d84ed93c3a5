// An unmodified automerge-repo client, driven line by line by the tests.
import * as A from "@automerge/automerge"
import { Repo } from "@automerge/automerge-repo"
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"
import readline from "node:readline"

let repo, adapter, handle, found
const closes = []
const sleep = ms => new Promise(done => setTimeout(done, ms))
const look = () => JSON.parse(JSON.stringify(handle.doc()))

async function until(holds) {
  for (let turn = 0; turn < 6000; turn++) {
    if (holds()) return {}
    await sleep(10)
  }
  throw new Error("it did not come about: " + JSON.stringify(handle?.doc()))
}

// The adapter is as npm has it; each of its sockets is listened to from its making.
function watch() {
  let held = adapter.socket
  Object.defineProperty(adapter, "socket", {
    get: () => held,
    set: socket => {
      held = socket
      socket?.addEventListener("close", event => closes.push({ code: event.code, reason: event.reason }))
    },
  })
}

const acts = {
  connect: ({ address, retry }) => {
    adapter = new WebSocketClientAdapter(address, retry ?? 60000)
    watch()
    repo = new Repo({ network: [adapter] })
  },
  open: async ({ url }) => { handle = await repo.find(url); return { doc: look() } },
  seek: ({ url }) => { repo.find(url).then(h => { found = "found"; handle = h }, error => { found = String(error) }) },
  sought: async () => { await until(() => found !== undefined); return { found } },
  look: () => ({ doc: look(), heads: A.getHeads(handle.doc()).sort() }),
  edit: ({ at, remove, text, whole, fields, scalar, tag, untag, root, list, counter }) => handle.change(d => {
    if (text !== undefined) A.splice(d, ["text"], at, remove ?? 0, text)
    if (whole !== undefined) A.updateText(d, ["text"], whole)
    for (const [name, value] of Object.entries(fields ?? {})) d.fields[name] = value
    for (const [name, value] of Object.entries(scalar ?? {})) d.fields[name] = new A.ImmutableString(value)
    for (const [name, value] of Object.entries(root ?? {})) d[name] = value
    if (tag) d.tags[tag] = true
    if (untag) delete d.tags[untag]
    if (list) d.fields.list = [1, 2]
    if (counter) d.fields.counter = new A.Counter(1)
  }),
  say: ({ message }) => handle.broadcast(message),
  text: ({ text }) => until(() => handle.doc()?.text === text),
  field: ({ name, value }) => until(() => String(handle.doc()?.fields[name]) === value),
  closed: async () => { await until(() => closes.length > 0); return { closes } },
  end: () => { repo.shutdown(); process.exit(0) },
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const said = JSON.parse(line)
  try {
    process.stdout.write(JSON.stringify((await acts[said.act](said)) ?? {}) + "\n")
  } catch (error) {
    process.stdout.write(JSON.stringify({ error: String(error) }) + "\n")
  }
}
