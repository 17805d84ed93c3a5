// One document held by @automerge/automerge, driven line by line: the other side of the sync protocol, for test_repo_interop.py.
import * as A from "@automerge/automerge"
import readline from "node:readline"

const bytes = text => new Uint8Array(Buffer.from(text, "hex"))
const hex = data => Buffer.from(data).toString("hex")
let doc = A.init(), state = A.initSyncState()

const acts = {
  begin: () => { doc = A.init(); state = A.initSyncState() },
  create: () => { doc = A.from({ text: "", fields: {}, tags: {} }) },
  load: ({ changes }) => { [doc] = A.applyChanges(doc, changes.map(bytes)) },
  edit: ({ at, remove, text, field, tag, whole }) => {
    doc = A.change(doc, d => {
      if (text !== undefined) A.splice(d, ["text"], Math.min(at, d.text.length), Math.min(remove, Math.max(0, d.text.length - at)), text)
      if (whole !== undefined) d.text = whole
      if (field) d.fields[field[0]] = field[1]
      if (tag) d.tags[tag] = true
    })
  },
  next: () => {
    const [after, message] = A.generateSyncMessage(doc, state)
    state = after
    return { message: message ? hex(message) : null }
  },
  receive: ({ message }) => { [doc, state] = A.receiveSyncMessage(doc, state, bytes(message)) },
  forget: () => { state = A.initSyncState() },
  changes: () => ({ changes: A.getAllChanges(doc).map(c => ({ hash: A.decodeChange(c).hash, deps: A.decodeChange(c).deps, chunk: hex(c) })) }),
  look: () => ({ heads: A.getHeads(doc).sort(), doc: JSON.parse(JSON.stringify(doc)) }),
  decode: ({ message }) => {
    const m = A.decodeSyncMessage(bytes(message))
    return { heads: m.heads, need: m.need, have: m.have.map(h => ({ lastSync: h.lastSync, bloom: hex(h.bloom) })), changes: m.changes.map(hex) }
  },
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const said = JSON.parse(line)
  try {
    process.stdout.write(JSON.stringify(acts[said.act](said) ?? {}) + "\n")
  } catch (error) {
    process.stdout.write(JSON.stringify({ error: String(error) }) + "\n")
  }
}
