// The timing of web/bench.py: the same code in a page of Chromium and in Node. Prints one JSON object.
//
//   node web/bench.mjs FOLDER      with texts.json, empty.html, nano.nest, int8.nest and micro.nest

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { launch, serve, WEB } from "./browser.mjs";
import * as nestling from "./nestling.js";

const folder = process.argv[2];
const MODELS = ["nano", "int8", "micro"];
const SLOW = { micro: 20 }; // gets so many times fewer texts
const ROUNDS = 9; // the first of which warms up
const KINDS = ["encode", "encode into an array", "tokens"];

/** What runs where the models are: in the page, or here. place(name) is what load takes. */
function workbench({ load, similarity }, texts, place) {
  const models = {};
  const outs = {}; // to be filled again in each round
  const timed = (work) => {
    const start = performance.now();
    work();
    return performance.now() - start;
  };
  const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
  return {
    async load(name) {
      const start = performance.now();
      models[name] = await load(place(name));
      return performance.now() - start;
    },
    encode(name, from, to) {
      const part = texts.slice(from, to);
      return timed(() => models[name].encode(part));
    },
    "encode into an array"(name, from, to) {
      const part = texts.slice(from, to);
      const out = (outs[name] ??= new Float32Array(part.length * models[name].dim));
      return timed(() => models[name].encode(part, { out }));
    },
    tokens(name, from, to) {
      const part = texts.slice(from, to);
      return timed(() => models[name].countTokens(part));
    },
    "one text"(name, times) {
      return middle(
        texts.slice(0, 100).map(
          (text) =>
            timed(() => {
              for (let i = 0; i < times; i++) models[name].encode(text);
            }) / times,
        ),
      );
    },
    search(name) {
      const passages = models[name].encode(texts.slice(0, 10_000));
      return middle(texts.slice(0, 50).map((text) => timed(() => similarity(models[name].encode(text), passages))));
    },
  };
}

/** Rounds over models in turn, no text twice for one. run(what, ...) -> wall ms; cpu() -> ms of this thread so far. */
async function measure(run, cpu, count) {
  const rounds = {};
  const loads = {};
  for (const name of MODELS) {
    rounds[name] = { ...Object.fromEntries(KINDS.map((kind) => [kind, []])) };
    loads[name] = [];
    for (let i = 0; i < 7; i++) loads[name].push(await run("load", name));
  }
  const most = Math.floor(count / (ROUNDS * KINDS.length));
  const sizes = Object.fromEntries(MODELS.map((name) => [name, Math.floor(most / (SLOW[name] ?? 1))]));
  for (let round = 0; round < ROUNDS; round++)
    for (const name of MODELS)
      for (const [k, kind] of KINDS.entries()) {
        const from = (round * KINDS.length + k) * most;
        const before = await cpu();
        const wall = await run(kind, name, from, from + sizes[name]);
        rounds[name][kind].push({ wall, cpu: (await cpu()) - before });
      }
  const found = {};
  for (const name of MODELS) {
    found[name] = {
      "load (ms)": median(loads[name]),
      "one text (us)": 1000 * (await run("one text", name, Math.floor(500 / (SLOW[name] ?? 1)))),
      "search of 10,000 passages (ms)": await run("search", name),
    };
    for (const kind of KINDS) found[name][kind] = rates(rounds[name][kind].slice(1), sizes[name]);
  }
  return { "texts a round": sizes, models: found };
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Texts a second: by CPU time, which compares on a busy machine too, and by the clock. */
function rates(rounds, size) {
  const rate = (ms) => Math.round((size / ms) * 1000);
  const [cpu, wall] = ["cpu", "wall"].map((key) => rounds.map((round) => round[key]));
  return {
    "texts a CPU second": rate(median(cpu)),
    "best round": rate(Math.min(...cpu)),
    "by the clock": rate(median(wall)),
    "best round by the clock": rate(Math.min(...wall)),
  };
}

async function inChromium() {
  const server = await serve({ "/": WEB, "/data/": folder });
  const { browser, context } = await launch(server.origin);
  const page = await context.newPage();
  await page.goto(`${server.origin}/data/empty.html`);
  const count = await page.evaluate(async (code) => {
    const texts = await (await fetch("/data/texts.json")).json();
    const make = (0, eval)(`(${code})`);
    globalThis.bench = make(await import("/nestling.js"), texts, (name) => `/data/${name}.nest`);
    return texts.length;
  }, workbench.toString());
  const session = await context.newCDPSession(page);
  await session.send("Performance.enable");
  const cpu = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return metrics.find(({ name }) => name === "ThreadTime").value * 1000;
  };
  const run = (what, ...values) =>
    page.evaluate(([what, values]) => globalThis.bench[what](...values), [what, values]);
  const results = await measure(run, cpu, count);
  const version = browser.version();
  await browser.close();
  server.close();
  return { version, ...results };
}

async function inNode() {
  const texts = JSON.parse(readFileSync(join(folder, "texts.json"), "utf8"));
  const bench = workbench(nestling, texts, (name) => join(folder, `${name}.nest`));
  const cpu = () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  };
  return {
    version: process.version,
    ...(await measure((what, ...values) => bench[what](...values), cpu, texts.length)),
  };
}

const round = (_, value) =>
  typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(3)) : value;
console.log(JSON.stringify({ rounds: ROUNDS - 1, chromium: await inChromium(), node: await inNode() }, round));
