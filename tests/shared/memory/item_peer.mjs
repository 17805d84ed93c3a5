// An item read and edited with @automerge/automerge alone, for test_javascript.py: one task in, one answer out, as JSON.
import * as A from "@automerge/automerge"

const bytes = text => new Uint8Array(Buffer.from(text, "base64"))
const text = data => Buffer.from(data).toString("base64")

let input = ""
for await (const piece of process.stdin) input += piece
const task = JSON.parse(input)

let doc = A.load(bytes(task.saved), { actor: task.actor })
const read = { kind: doc.kind, immutable: A.isImmutableString(doc.kind), text: doc.text, tags: Object.keys(doc.tags), confidence: doc.confidence }
const history = A.getHistory(doc).map(({ change }) => ({ hash: change.hash, time: change.time, message: change.message }))
const before = A.getHeads(doc)
doc = A.change(doc, { time: task.time }, d => {
  A.splice(d, ["text"], 4, 0, "front 😀 ")
  d.fields.lane = "slow"
  d.fields.why = new A.ImmutableString("old")
  d.subject = "the desk"
  d.tags.hours = true
  delete d.tags.roof
  d.confidence = 700
})
const changes = A.getChangesSince(doc, before).map(text)
const merged = A.loadIncremental(doc, bytes(task.later))
process.stdout.write(JSON.stringify({
  read, history, changes, saved: text(A.save(merged)),
  merged: { kind: String(merged.kind), text: merged.text, lane: String(merged.fields.lane), conflicts: Object.values(A.getConflicts(merged.fields, "lane") ?? {}).map(String).sort() },
}))
