// What tests/test_web.py asks of a real browser. Prints one JSON object.
//
//   node web/check.mjs FOLDER PICTURES
//
// FOLDER holds what Python has prepared: site/ (the demo as it is deployed), texts.json, expected.json with the bits of
// every vector in *.bin, and hostile.json with the files in hostile.bin. Screenshots go to PICTURES.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { launch, serve, WEB } from "./browser.mjs";

const [folder, pictures] = process.argv.slice(2);
const LIGHT = { viewport: { width: 1280, height: 900 }, colorScheme: "light" };
const DARK = { ...LIGHT, colorScheme: "dark" };
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, colorScheme: "light", hasTouch: true };

async function main() {
  mkdirSync(pictures, { recursive: true });
  const server = await serve({ "/": join(folder, "site"), "/web/": WEB, "/data/": folder });
  const { browser, context, strayed } = await launch(server.origin, LIGHT);
  const page = await context.newPage();
  await page.goto(`${server.origin}/data/empty.html`);
  const report = {
    vectors: await page.evaluate(compareVectors),
    hostile: await page.evaluate(openHostile),
    interface: await page.evaluate(useInterface),
    worker: await page.evaluate(useInWorker),
    transformer: await page.evaluate(useTransformer),
    demo: await useDemo(context, server.origin),
    strayed,
  };
  for (const [name, options] of Object.entries({ dark: DARK, phone: PHONE }))
    await picture(browser, server.origin, name, options);
  console.log(JSON.stringify(report));
  await browser.close();
  server.close();
}

// --- in the page ---

/** How many of the vectors of each model and option differ from Python's in a bit. */
async function compareVectors() {
  const { load } = await import("/web/nestling.js");
  const get = async (name) => (await fetch(`/data/${name}`)).arrayBuffer();
  const parse = async (name) => JSON.parse(new TextDecoder().decode(await get(name)));
  const texts = await parse("texts.json");
  const found = [];
  console.warn = () => {};
  for (const { model: name, runs } of await parse("expected.json")) {
    const model = await load(`/data/${name}.nest`);
    for (const { file, options, task, cut, counts } of runs) {
      const expected = new Uint32Array(await get(file));
      const vectors =
        { query: model.encodeQuery, document: model.encodeDocument }[task]?.call(model, texts, options) ??
        model.encode(texts, task ? { ...options, task } : options);
      const mine = new Uint32Array(vectors.data.buffer);
      const different = texts.filter((_, i) =>
        vectors.at(i).some((_, d) => mine[i * vectors.dim + d] !== expected[i * vectors.dim + d]),
      );
      const alone = texts
        .slice(0, 50)
        .filter(
          (text, i) => !counts && model.encode(text, options).some((value, d) => !task && value !== vectors.at(i)[d]),
        );
      found.push({
        model: name,
        options,
        task,
        different: different.slice(0, 3),
        alone,
        fits: mine.length === expected.length,
        cut: vectors.cut === cut,
      });
    }
  }
  return found;
}

/** Of each hostile file: what the error says, or "loads" and the bits of some vectors. */
async function openHostile() {
  const { load, NestlingError } = await import("/web/nestling.js");
  const files = new Uint8Array(await (await fetch("/data/hostile.bin")).arrayBuffer());
  const { sizes, texts } = await (await fetch("/data/hostile.json")).json();
  const found = [];
  let start = 0;
  for (const size of sizes) {
    const began = performance.now();
    const told = { said: "loads" };
    try {
      const model = await load(files.subarray(start, start + size));
      told.bits = Array.from(new Uint32Array(model.encode(texts, { overflow: "split" }).data.buffer));
    } catch (error) {
      told.said = error instanceof NestlingError ? error.message : `${error.stack}`;
      told.refused = error instanceof NestlingError;
    }
    found.push({ ...told, ms: performance.now() - began });
    start += size;
  }
  return found;
}

/** What each use of the interface gives, or throws. */
async function useInterface() {
  const { load, similarity, Vectors } = await import("/web/nestling.js");
  const model = await load("/nano.nest");
  const texts = ["The cat sat on the mat.", "", "naïve café, 東京 \u{1f642}"];
  const vectors = model.encode(texts);
  const out = new Float32Array(3 * 64);
  const half = "half \ud83d";
  const bytes = await (await fetch("/nano.nest")).arrayBuffer();
  const uses = {
    "one text": () => [model.encode("a").constructor.name, model.encode("a").length],
    "no text": () => [model.encode([]).length, model.encode([]).dim],
    "an empty text": () => vectors.at(1).every((value) => value === 0),
    "unit length": () => Math.abs(Math.hypot(...vectors.at(0)) - 1) < 1e-6,
    "at the end": () => vectors.at(-1) !== undefined && vectors.at(3) === undefined,
    "each of them": () => [...vectors].length,
    "a generator": () =>
      model.encode(
        (function* () {
          yield "a";
          yield "b";
        })(),
      ).length,
    "into an array": () => [
      model.encode(texts, { out, dim: 64 }).data === out,
      model.encode("a", { out: new Float32Array(128) }).length,
    ],
    "similar numbers": () =>
      [similarity(vectors.at(0), vectors.at(0)), similarity(vectors.at(1), vectors.at(0))].map((x) => x.toFixed(4)),
    "similar lists": () => [
      similarity(vectors, vectors).map((row) => row.length),
      similarity(vectors.at(0), [...vectors]).length,
      similarity(vectors, vectors.at(0)).length,
    ],
    "vectors that were kept": () => similarity(new Vectors(vectors.data, 128), vectors.at(0))[0].toFixed(4),
    tokens: () => [model.countTokens("The cat sat."), model.countTokens(["a b", ""])],
    "what it says": () => [
      model.name,
      model.dim,
      model.dims,
      model.licence,
      model.maxTokens,
      model.fingerprint.length,
    ],
    "half a character, replaced": () =>
      model.encode([half, "half \ufffd"], { errors: "replace" }).data.subarray(0, 128).join() ===
      model.encode("half \ufffd").join(),
    "a long text": () => model.countTokens("word ".repeat(300_000)),
    "half a character": () => model.encode(["a", half]),
    "halves that meet": () => model.encode(["a \ud83d", "\ude42"]),
    "a number": () => model.encode(["a", 1]),
    nothing: () => model.encode(null),
    "a dim between": () => model.encode("a", { dim: 50 }),
    "another overflow": () => model.encode("a", { overflow: "drop" }),
    "an array of another size": () => model.encode("a", { out: new Float32Array(3) }),
    "other dims": () => similarity(model.encode("a"), model.encode("a", { dim: 64 })),
    "no vector": () => similarity("a", vectors),
    "a tier at load": async () => [
      (await load(bytes, { dim: 64 })).encode("a").join() === model.encode("a", { dim: 64 }).join(),
      (await load(bytes, { dim: 64 })).dims,
    ],
    "a larger dim at load": () => load(bytes, { dim: 100 }),
    "a response": async () => (await load(await fetch("/nano.nest"))).name,
    "no such file": () => load("/nothing.nest"),
    "no core": () => load(bytes, { wasm: bytes }),
    "no model": () => load(5),
  };
  const found = {};
  for (const [name, use] of Object.entries(uses)) {
    try {
      found[name] = await use();
    } catch (error) {
      found[name] = `${error.name}: ${error.message}`;
    }
  }
  return found;
}

async function useInWorker() {
  const code = `import { load } from "${location.origin}/web/nestling.js";
    const model = await load("${location.origin}/nano.nest"); postMessage(model.encode("a text").join());`;
  const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });
  const theirs = await new Promise((resolve, reject) =>
    Object.assign(worker, { onmessage: (event) => resolve(event.data), onerror: reject }),
  );
  worker.terminate();
  const { load } = await import("/web/nestling.js");
  return theirs === (await load("/nano.nest")).encode("a text").join();
}

/** Whether the vectors of transformers are Python's, and what their interface gives, or throws. */
async function useTransformer() {
  const { load } = await import("/web/nestling.js");
  const get = async (name) => (await fetch(`/data/${name}`)).arrayBuffer();
  const { texts, runs, hostile } = JSON.parse(new TextDecoder().decode(await get("transformers.json")));
  const found = { runs: [], uses: {}, hostile: [] };
  for (const { model: name, file, options, role, cut } of runs) {
    const model = await load(`/data/${name}.nest`);
    const how = { query: "encodeQuery", document: "encodeDocument", text: "encode" }[role];
    const vectors = model[how](texts, options);
    const expected = new Float32Array(await get(file));
    const alone = texts.slice(0, 20).map((text) => model[how](text, options));
    found.runs.push({
      model: name,
      different: vectors.data.filter((value, i) => value !== expected[i]).length,
      fits: vectors.data.length === expected.length && vectors.cut === cut,
      alone: alone.filter((vector, i) => vector.some((value, d) => value !== vectors.at(i)[d])).length,
    });
  }
  const model = await load("/data/micro.nest");
  const long = "word ".repeat(3000);
  const uses = {
    "another wasm": () => load("/data/micro.nest", { wasm: "/web/nestling.wasm" }),
    "another task": () => model.encode("a", { task: "nli" }),
    "a text that is too long": () => model.encode(["a", long], { overflow: "error" }),
    tasks: () => model.tasks,
    tokens: () => [model.countTokens("The cat sat."), model.countTokens(["a b", ""])],
    "a tier at load": async () =>
      (await load("/data/micro.nest", { dim: 64 })).encode("a").join() === model.encode("a", { dim: 64 }).join(),
    "into an array": () => {
      const out = new Float32Array(64);
      return model.encode("a", { dim: 64, out }) === out && out.some(Boolean);
    },
  };
  for (const [name, use] of Object.entries(uses)) {
    try {
      found.uses[name] = await use();
    } catch (error) {
      found.uses[name] = `${error.name}: ${error.message}`;
    }
  }
  for (const file of hostile) {
    try {
      (await load(`/data/${file}`)).encode("a b c");
      found.hostile.push("loads");
    } catch (error) {
      found.hostile.push(`${error.name}: ${error.message}`);
    }
  }
  return found;
}

// --- the demo page ---

async function openDemo(page, origin) {
  await page.goto(`${origin}/`);
  await page.waitForSelector("html[data-ready]");
}

async function useDemo(context, origin) {
  const page = await context.newPage();
  const [problems, transfer] = [[], {}];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("response", async (response) => {
    if (response.request().method() === "HEAD") return;
    const path = new URL(response.url()).pathname;
    const body = await response.body();
    transfer[path] = (transfer[path] ?? 0) + (path.endsWith(".nest") ? body : gzipSync(body, { level: 9 })).length;
  });
  await openDemo(page, origin);
  const status = await page.textContent("#status");
  const first = () => page.textContent("#results li:first-child p");
  const started = await first();
  await page.mouse.move(1000, 640);
  await page.waitForTimeout(400);
  await page.screenshot({ path: join(pictures, "web-light.png") });

  await page.fill("#query", "money and greed");
  const searched = await first();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  const like = [await page.textContent("#results li:first-child .score"), await first()];

  await drop(
    page,
    "notes.txt",
    "The kettle is on the stove, and the bread that we baked in the morning is on the table.\n\n" +
      "Our ship left the harbour at dawn, and by noon we saw no land.",
  );
  const dropped = await page.textContent("#status");
  await page.fill("#query", "sailing away");
  const foundInDrop = await first();
  await page.screenshot({ path: join(pictures, "web-dropped.png") });
  await drop(page, "picture.png", "\u0000\u0001");
  const refused = await page.textContent("#status");

  await page.fill("#pasted", "A bird built its nest in the chimney.");
  await page.fill("#query", "animals at home");
  const pasted = [await page.textContent("#results li:first-child .source"), await first()];
  await page.fill("#pasted", "a" + "😀".repeat(300));
  const whole = await page.textContent("#status");
  await page.click("#shelf");
  const back = await page.textContent("#status");
  await page.fill("#query", "");
  const empty = await page.textContent("#results");
  await page.focus("#map");
  const label = await page.getAttribute("#map", "aria-label");
  await page.close();
  return {
    status,
    started,
    searched,
    like,
    dropped,
    foundInDrop,
    refused,
    pasted,
    whole,
    back,
    empty,
    label,
    problems,
    transfer,
  };
}

async function drop(page, name, text) {
  const data = await page.evaluateHandle(
    ([name, text]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([text], name));
      return transfer;
    },
    [name, text],
  );
  const before = await page.textContent("#status");
  await page.dispatchEvent("body", "dragover", { dataTransfer: data });
  await page.dispatchEvent("body", "drop", { dataTransfer: data });
  await page.waitForFunction((before) => document.getElementById("status").textContent !== before, before);
}

async function picture(browser, origin, name, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  await openDemo(page, origin);
  await page.waitForTimeout(400);
  await page.screenshot({ path: join(pictures, `web-${name}.png`) });
  await context.close();
}

await main();
