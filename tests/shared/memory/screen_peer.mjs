// Edits of an item as an application that knows only JavaScript's Automerge makes them, one change each.
import * as A from "@automerge/automerge"

const out = [], who = "0f".repeat(16)
const text = s => new A.ImmutableString(s)
const take = d => (out.push(Buffer.from(A.getLastLocalChange(d)).toString("base64")), d)
let d = take(A.from({kind: text("fact"), text: "Grüße 👨‍👩‍👧", source: "plain", scope: text("team/x"), sensitivity: text("normal"),
  subject: text(""), confidence: 900, valid_from: 0, expires_at: 1700000000000000, fields: {lane: "text", is: text("string")},
  tags: {roof: true}}, {actor: "00".repeat(16)}))
let e = A.clone(d, {actor: who})
d = take(A.change(d, {message: "why", time: 1700000000}, x => { A.splice(x, ["text"], 2, 3, "ÖÖ"); x.confidence = 0 }))
e = take(A.change(e, x => { x.kind = text("note"); x.confidence = 7; x.tags.new = true; delete x.tags.roof; delete x.fields.lane }))
d = take(A.change(d, x => { x.kind = text("decision"); A.splice(x, ["text"], 0, 1) }))
d = A.merge(d, e)
d = take(A.change(d, x => { A.updateText(x, ["text"], "another 😀 text"); x.kind = text("summary"); x.valid_from = 12; x.pinned = true }))
d = take(A.change(d, x => { A.splice(x, ["text"], 0, 0, "long ".repeat(200)) }))
d = take(A.change(d, x => { A.splice(x, ["text"], 0, 700) }))
d = take(A.change(d, x => { x.text = "a new text"; x.subject = "plain"; x.fields.when = new Date(1700000000000) }))
console.log(JSON.stringify(out))
