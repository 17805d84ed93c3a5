// A client of automerge-repo as its makers wrote it: `push TEXTS IDS` makes documents and waits until the server has
// them, `pull TEXTS IDS` fetches them by their ids and waits until it has their texts.
import { readFileSync, writeFileSync } from "node:fs";
import { Repo } from "@automerge/automerge-repo";
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket";

const [url, what, textsAt, idsAt] = process.argv.slice(2);
const texts = JSON.parse(readFileSync(textsAt, "utf8"));
const adapter = new WebSocketClientAdapter(url);
const repo = new Repo({ network: [adapter], enableRemoteHeadsGossiping: true });
await repo.networkSubsystem.whenReady();
const server = [...repo.peers][0] ?? (await new Promise((found) => adapter.once("peer-candidate", (p) => found(p.peerId))));

async function found(id) {
  for (let left = 20; ; left--) {
    try {
      return await repo.find(id);
    } catch (error) {
      if (left === 0) throw error; // the server may still be writing it
      await new Promise((again) => setTimeout(again, 500));
    }
  }
}

if (what === "push") {
  const storage = repo.getStorageIdOfPeer(server);
  const handles = texts.map((text) => repo.create({ text }));
  await Promise.all(
    handles.map(async (handle) => {
      const same = () => String(handle.getSyncInfo?.(storage)?.lastHeads) === String(handle.heads());
      while (!same()) await new Promise((again) => setTimeout(again, 20));
    }),
  );
  writeFileSync(idsAt, JSON.stringify(handles.map((handle) => handle.url)));
} else {
  const ids = JSON.parse(readFileSync(idsAt, "utf8"));
  const handles = [];
  for (let at = 0; at < ids.length; at += 50) {
    handles.push(...(await Promise.all(ids.slice(at, at + 50).map((id) => found(id)))));
  }
  handles.forEach((handle, n) => {
    if (handle.doc().text !== texts[n]) throw new Error(`document ${n} is not what was pushed`);
  });
}
process.exit(0);
