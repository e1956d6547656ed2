// Runs scripts of events through web/consult/machine.js and prints what it does:
//
//   node tools/web/machine.mjs SCRIPT.jsonl     (or a script on stdin)
//
// For whoever has a model of the page in another language: the same script through
// both must give the same lines. web/testdata/machine holds scripts, each NAME.jsonl
// with what is printed for it in NAME.out.jsonl (machine.test.mjs holds them to it;
// UPDATE=1 writes them anew).
//
// A script is a page's life, one JSON object a line; empty lines and lines that begin
// with # are for the reader.
//
//   {"at": 1500, "event": {"type": "closed", "leg": 1, "dice": 0.5}}
//
// `at` is the clock in ms, above 0, and never goes back. `event` is an Event of
// web/consult/types.js, whole: legs are numbered in the order of the `connect` effects,
// from 1; chance is its `dice`, and a timer's `late` is by how many ms it came too late.
// Nothing happens by itself: a script says when a timer is over that an effect started.
//
// Each line gives one line:
//
//   {"at", "event": its type, "state": {…}, "effects": [Effect, …]}
//
// with the effects of types.js in order, and of the state what the next events turn
// on: name, step, text, gap, moving, flowAt, due, failures, tried, sent, stranded,
// addresses, and of each leg id, role, url, sent, socket, region ("" until welcomed),
// epoch, heard, progress, to. A model compares what it has: one without words may leave
// out `say`, `devices` and `send`.

import {readFileSync} from "node:fs";
import {argv, stdin} from "node:process";
import {pathToFileURL} from "node:url";
import {initial, step} from "../../web/consult/machine.js";

/** The lines that a script gives. @param {string} script */
export function run(script) {
  let state = initial;
  return script.split("\n").flatMap((line) => {
    if (line.trim() === "" || line.startsWith("#")) return [];
    const {at, event} = JSON.parse(line);
    const result = step(state, event, at);
    state = result.state;
    return [JSON.stringify({at, event: event.type, state: summary(state), effects: result.effects})];
  });
}

function summary({name, step, text, gap, moving, flowAt, due, failures, tried, sent, stranded, addresses, legs}) {
  return {
    name, step, text, gap, moving, flowAt, due, failures, tried, sent, stranded, addresses,
    legs: legs.map(({id, role, address, sent, socket, place, epoch, heard, progress, to}) =>
      ({id, role, url: address.url, sent, socket, region: place?.region ?? "", epoch, heard, progress, to})),
  };
}

if (argv[1] && import.meta.url === pathToFileURL(argv[1]).href) {
  console.log(run(readFileSync(argv[2] ?? stdin.fd, "utf8")).join("\n"));
}
